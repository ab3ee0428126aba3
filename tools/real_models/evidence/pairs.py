"""Which of two answers helps more, by a model's word: `python -m real_models.evidence.pairs RECORDS --model M`.

For every decoder beside plain decoding, and every prompt to which the two say different things, the model is shown both
answers as A and B, and the other way round. What it prefers in both orders wins; where it says the same letter twice,
it only likes a place, and nobody wins. How often that happens is how little such a judge is worth.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rain_decoding import BackendError, Message, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.evaluation.report.formats import percent
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import rate
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.self_evaluation.evaluator import find_label_tokens
from rain_decoding.types import LabelProbabilities, Unanswered
from real_models.evidence.prompts import DIALOGUES
from real_models.evidence.verdicts import BASE, asked

QUESTION = """Somebody said to an assistant:
"{goal}"

Answer A: "{a}"

Answer B: "{b}"

Which answer helps this person more? Reply with one letter, A or B."""
LEAD = "Answer ("
LETTERS = (("A",), ("B",))
HEADS = (
    *("decoder", "prompts", "texts differ", "wins", "loses", "the same letter in both orders"),
    "wins, of those that are decided",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path)
    parser.add_argument("--model", required=True, help="who compares")
    parser.add_argument("--families", default=",".join(DIALOGUES))
    options = parser.parse_args()
    for line in table(asked(options.records, options.families.split(",")), load_backend(options.model)):
        print(line, flush=True)


def table(records: Sequence[Record], backend: Backend) -> Iterator[str]:
    """Lines of Markdown."""
    answers: dict[str, dict[tuple[str, int], Record]] = {}
    for each in records:
        answers.setdefault(each["decoder"], {})[each["id"], each["seed"]] = each
    base = answers.pop(BASE)
    yield f"| {' | '.join(HEADS)} |"
    yield f"|{' --- |' * len(HEADS)}"
    for name, own in answers.items():
        pairs = [(one, base[key]) for key, one in own.items() if key in base]
        differ = [(one, other) for one, other in pairs if one["answer"] != other["answer"]]
        found = Counter(compare(differ, backend))
        decided = rate([True] * found[True] + [False] * found[False])
        counts = (len(pairs), len(differ), found[True], found[False], found[None])
        yield f"| {name} | {' | '.join(map(str, counts))} | {percent(decided.rounded() if decided else None)} |"


def compare(pairs: Sequence[tuple[Record, Record]], backend: Backend) -> Iterator[bool | None]:
    """Whether the first answer of each pair is preferred in both orders; None where the orders contradict."""

    def questions() -> Iterator[tuple[int, Program[bool]]]:
        for number, (one, other) in enumerate(pairs):
            yield number, _first_helps_more(one, other, backend)
            yield number, _first_helps_more(other, one, backend)

    said: dict[int, bool] = {}
    for number, first in results_of(backend, questions(), 1):
        if number not in said:
            said[number] = first
        elif said[number] != first:
            yield said[number]
        else:
            yield None


def _first_helps_more(one: Mapping[str, str], other: Mapping[str, str], backend: Backend) -> Program[bool]:
    asked_for = QUESTION.format(goal=one["goal"], a=one["answer"], b=other["answer"])
    text = build_prompt([Message("user", asked_for)], backend, prompt_format="chat").text + LEAD
    letters = find_label_tokens(backend.codec, (text, False), LETTERS)
    tokens = backend.codec.encode(text, start=False)[: -letters.dropped or None]
    said = yield from ask(LabelProbabilities(tokens, tuple(first for first, *_ in letters.forms)))
    if isinstance(said, Unanswered):
        raise BackendError(said.problem)
    return bool(said[0] > said[1])


if __name__ == "__main__":
    main()
