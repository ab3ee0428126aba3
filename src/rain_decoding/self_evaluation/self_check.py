"""Whether asking a model about a criterion beats a coin at all, found on the criterion's own examples."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from platformdirs import user_cache_path

from rain_decoding.backends.base import Backend
from rain_decoding.errors import ConfigError
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Judging, SelfEvaluator
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_hash, examples_of
from rain_decoding.self_evaluation.reading.reader import is_brought

LOOKED_AT = 12
"""Examples of each label that are asked about: enough to tell a judge that knows from a coin, in seconds."""


def is_checked(backend: Backend, criterion: Criterion) -> bool:
    """Whether there is something to look at, and looking costs no more than time on this machine."""
    return (
        criterion.reading_file is not None
        and bool(backend.capabilities.layers)
        and not is_brought(backend, criterion)
    )


def doubt_of(evaluator: SelfEvaluator, *, prompt_format: PromptFormat = "auto") -> str:
    """Why the answers of this model to this question are not to be trusted; empty where they are.

    Half of the criterion's own examples that are looked at are good. Where they are judged no better than by a coin
    (the interval of balanced accuracy holds 0.5), a search by them would be one too. The result is kept by model and
    criterion. Raises what the backend raises.
    """
    examples = _looked_at(evaluator.criterion)
    file = _file(evaluator.backend, evaluator.criterion, examples)
    found = _kept(file)
    if found is None:
        try:
            found = {"right": _right(evaluator, examples, prompt_format), "of": len(examples)}
        except ConfigError:  # it cannot be asked at all, which whoever wants a judgement will hear
            return ""
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found) + "\n", encoding="utf-8")
    from rain_decoding.measurement.statistics import rate  # it brings scipy

    right = rate([number < found["right"] for number in range(found["of"])])
    if right is None or right.low > 0.5:
        return ""
    return (
        f"{evaluator.backend.name} was right about {found['right']} of {found['of']} examples of {evaluator.name}: no "
        "better than a coin"
    )


def _looked_at(criterion: Criterion) -> list[ReadingExample]:
    examples = examples_of(criterion)
    by_label = [[each for each in examples if each.good is good][-LOOKED_AT:] for good in (True, False)]
    return [each for pair in zip(*by_label, strict=False) for each in pair]


def _right(evaluator: SelfEvaluator, examples: Sequence[ReadingExample], prompt_format: PromptFormat) -> int:
    backend = evaluator.backend

    def programs() -> Iterator[tuple[bool, Judging]]:
        for example in examples:
            prompt = build_prompt(example.messages, backend, prompt_format=prompt_format)
            yield example.good, evaluator.conversation(prompt).judge(example.answer)

    judged = results_of(backend, programs(), len(examples))
    return sum(found.score is not None and (found.score > 0) == good for good, found in judged)


def _file(backend: Backend, criterion: Criterion, examples: Sequence[ReadingExample]) -> Path:
    asked = json.dumps(asdict(criterion), default=str, sort_keys=True)
    name = hashlib.sha256(repr((backend.fingerprint, asked, examples_hash(examples))).encode()).hexdigest()[
        :32
    ]
    return user_cache_path("rain-decoding") / "checks" / f"{name}.json"


def _kept(file: Path) -> dict[str, int] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: int(found[name]) for name in ("right", "of")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
