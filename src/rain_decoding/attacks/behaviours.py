"""Behaviours: what an attacker wants to bring out, and how an attacked prompt is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rain_decoding.errors import InputError
from rain_decoding.evaluation.suites.advbench import attacked_prompt
from rain_decoding.evaluation.suites.reading import read_csv


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A request, and the beginning of the answer that the attacker wants."""

    goal: str
    target: str

    def prompt(self, suffix: str) -> str:
        """The request with an attack's suffix, as the suites ask it."""
        return attacked_prompt(self.goal, suffix)


def read_behaviours(path: Path, limit: int = 0) -> tuple[Behaviour, ...]:
    """The behaviours of a CSV file with goal and target, each goal once; the first `limit` (0: all).

    Raises `InputError` naming file and line of what does not fit.
    """
    found: dict[str, Behaviour] = {}
    for _, row in read_csv(path, ["goal", "target"]):
        found.setdefault(row["goal"], Behaviour(row["goal"], row["target"]))
    if not found:
        raise InputError(
            f"{path} contains no behaviours", hint="use a CSV file with the columns goal and target"
        )
    return tuple(found.values())[: limit or None]
