"""The file that ratings are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType

from rain_decoding.errors import InputError
from rain_decoding.measurement.records import Record, RecordFile

RATINGS = "ratings.jsonl"
FIELDS = {"rater": str, "task": str, "question": str, "value": (str, NoneType)}
POOLED = "majority"
"""What all raters together are called; no rater may be."""
LONGEST = 40
"""Characters of a rater's name."""

Key = tuple[str, str, str]
"""Rater, task and question."""
Ratings = Mapping[Key, str]
"""What stands, by its key."""


class RatingStore:
    """The ratings of a run's folder. Each is written at once; of several by the same key the last one counts.

    Raises `InputError` where the file holds something else than ratings.
    """

    def __init__(self, folder: Path):
        self._file = RecordFile(folder / RATINGS, FIELDS)
        self.values: dict[Key, str] = {}
        for record in self._file.read():
            self._take(record)

    def rate(self, rater: str, task: str, question: str, value: str | None) -> None:
        """Keep a rating; None takes back what was said before. Raises `OSError` where it cannot be written."""
        record = {
            "rater": rater,
            "task": task,
            "question": question,
            "value": value,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._file.append(record, durable=True)
        self._take(record)

    def _take(self, record: Record) -> None:
        key = record["rater"], record["task"], record["question"]
        self.values.pop(key, None)
        if record["value"] is not None:
            self.values[key] = record["value"]


def checked_rater(name: str) -> str:
    """The name without space around it. Raises `InputError` for one that cannot be a rater's."""
    name = name.strip()
    if not name or len(name) > LONGEST or not name.isprintable() or name == POOLED:
        raise InputError(
            f"{name!r} cannot be a rater's name", hint=f"use 1 to {LONGEST} characters, and not {POOLED!r}"
        )
    return name
