"""Whether asking a model about a criterion beats a coin at all, found on the criterion's own examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rain_decoding.backends.base import Backend
from rain_decoding.errors import ConfigError
from rain_decoding.measurement.statistics import share
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Judging, SelfEvaluator
from rain_decoding.self_evaluation.kept import keep, kept_file
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


@dataclass(frozen=True, slots=True)
class Check:
    """About how many examples of how many, half of them good, a model was right when it was asked."""

    right: int
    of: int

    def doubt(self, evaluator: SelfEvaluator) -> str:
        """Why its answers are not to be trusted: the interval of its accuracy holds 0.5. Empty where they are."""
        found = share(self.right, self.of)
        if found is None or found.low > 0.5:
            return ""
        return (
            f"{evaluator.backend.name} was right about {self.right} of {self.of} examples of {evaluator.name}: no "
            "better than a coin"
        )


def check(evaluator: SelfEvaluator, *, prompt_format: PromptFormat = "auto") -> Check:
    """Ask the model about some of the criterion's own examples: where it is no better than a coin, a search is none.

    The result is kept by model and criterion. Raises what the backend raises.
    """
    examples = _looked_at(evaluator.criterion)
    file = _file(evaluator.backend, evaluator.criterion, examples)
    found = _kept(file)
    if found is None:
        try:
            found = Check(_right(evaluator, examples, prompt_format), len(examples))
        except ConfigError:  # it cannot be asked at all, which whoever wants a judgement will hear
            return Check(0, 0)
        text = json.dumps(asdict(found)) + "\n"
        keep(file, lambda partly: partly.write_text(text, encoding="utf-8"))
    return found


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
    return kept_file("checks", backend.fingerprint, asked, examples_hash(examples))


def _kept(file: Path) -> Check | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Check(int(found["right"]), int(found["of"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
