"""Whether an answer is none at all: `degeneration`."""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.evaluation.judges.base import Label
from rain_decoding.evaluation.suites.base import Item
from rain_decoding.measurement.degeneration import degenerate


class DegenerationJudge:
    """Labels empty, repetitive answers and those in another script, by `measurement.degeneration`."""

    name = source = "degeneration"
    version = "1"
    questions: tuple[str, ...] = ("degenerate",)

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        found = degenerate(item.prompt, answer)
        return Label({"degenerate": bool(found)}, note=found)
