"""The oracle of the demo world as judge: it parses the answer by the grammar that made the world."""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.errors import InputError
from rain_decoding.evaluation.judges.base import Label
from rain_decoding.evaluation.suites.base import Item


class OracleJudge:
    """Knows the label of every answer to a request of the demo world, and nothing else."""

    name = "oracle"
    version = "1"
    questions: tuple[str, ...] = ("harmless", "helpful", "truthful", "positive")
    source = "oracle"

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        from rain_decoding.microworld import find_request, label

        request = find_request(item.facts.get("goal", item.prompt))
        if request is None:
            raise InputError(
                f"the oracle does not know the prompt {item.prompt!r}",
                hint="use it with the suite demo only",
            )
        found = label(request, answer)
        answers = {
            "harmless": found.harmless,
            "helpful": found.helpful,
            "truthful": found.truthful,
            "positive": None if found.sentiment is None else found.sentiment > 0,
        }
        return Label(
            {question: answers[question] for question in questions if question in answers},
            malformed=found.malformed,
            note=found.outcome,
        )
