"""Judges of answers, and the registry that finds one by its name."""

from __future__ import annotations

from collections.abc import Callable

from rain_decoding.errors import InputError
from rain_decoding.evaluation.judges.base import Judge, Label, PairJudge, Preference
from rain_decoding.evaluation.judges.cache import ReplyCache
from rain_decoding.evaluation.judges.llm import LlmJudge
from rain_decoding.evaluation.judges.oracle import OracleJudge
from rain_decoding.evaluation.judges.refusal import LISTS, RefusalJudge


def _refusal(name: str, cache: ReplyCache) -> Judge:
    return RefusalJudge(name.removeprefix("refusal-prefixes-"))


def _classifier(name: str, cache: ReplyCache) -> Judge:
    from rain_decoding.evaluation.judges.classifier import ClassifierJudge

    return ClassifierJudge(name, cache)


JUDGES: dict[str, Callable[[str, ReplyCache], Judge]] = {
    "oracle": lambda name, cache: OracleJudge(),
    **{f"refusal-prefixes-{which}": _refusal for which in LISTS},
    "llm": LlmJudge,
    "hf-classifier": _classifier,
}
"""From the part of a judge's name before the colon to what makes it."""

FORMS = (
    "oracle",
    *(f"refusal-prefixes-{which}" for which in LISTS),
    "llm:BASE_URL#MODEL",
    "hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]",
)
MODELS = ("llm", "hf-classifier")
"""Kinds of judges that name a model."""


def load_judge(name: str, cache: ReplyCache) -> Judge:
    """The judge called `name`, one of `FORMS`. Raises `InputError` for another name."""
    kind, _, rest = name.partition(":")
    if kind not in JUDGES or bool(rest) != (kind in MODELS):
        raise InputError(f"unknown judge {name!r}", hint=f"judges: {', '.join(FORMS)}")
    return JUDGES[kind](name, cache)


__all__ = ["FORMS", "JUDGES", "Judge", "Label", "PairJudge", "Preference", "ReplyCache", "load_judge"]
