"""What the decoders of a run are, in words."""

from __future__ import annotations

from collections.abc import Iterator

from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import DECODERS, FLIPS, JUDGE, ORACLE, PLAIN, Contender
from rain_decoding.evaluation.plan import EvaluationPlan


def explanations(plan: EvaluationPlan) -> dict[str, str]:
    """By decoder: what it does, and what this one has of its own."""
    return {
        name: ". ".join([_capitalised(contender.summary), *_details(name, contender, plan.setting)])
        for name, contender in plan.contenders.items()
    }


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _details(name: str, contender: Contender, setting: Setting) -> Iterator[str]:
    """What the name and the run say beside the kind."""
    if setting.temperature and contender.decodes_plainly:
        yield f"Plain text is drawn at temperature {setting.temperature:g}"
    elif contender.kind == PLAIN:
        yield "Greedy: always the most probable token"
    if contender.is_search:
        yield _preset(name)
    judge = contender.judge or setting.judge
    if judge and DECODERS[contender.kind].judged and contender.kind != ORACLE:
        yield f"Its judge: {judge}"
    if contender.flips:
        yield f"{contender.flips:.0%} of the verdicts in the search are flipped"


def _preset(name: str) -> str:
    """The preset of a search and what is changed of it, from a name as `contender` reads it."""
    start, *settings = name.split("@")
    preset = start.partition(":")[2] or DEFAULT_PRESET
    changes = [setting for setting in settings if not setting.startswith((JUDGE, FLIPS))]
    return f"Preset {preset}" + (f", with {', '.join(changes)}" if changes else "")
