"""The file that keeps an evaluation's answers: nothing finished is lost, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError

Key = tuple[str, int, str]
KEYS = {"decoder", "seed", "prompt", "run"}
"""What every record has."""


def key(record: dict[str, Any]) -> Key:
    """What a record answers: decoder, seed and prompt."""
    return record["decoder"], record["seed"], record["prompt"]


class RecordFile:
    """Records as JSON lines, each with the settings of its run. Without a path nothing is kept."""

    def __init__(self, path: Path | None, settings: dict[str, Any]):
        self.path, self.settings = path, settings

    def read(self) -> list[dict[str, Any]]:
        """The records of earlier runs; the end of a line that a crash cut off is removed.

        Raises `InputError` for a file that holds something else or was made with other settings.
        """
        if self.path is None or not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole:
            raise self._no_record(1)
        records = []
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise self._no_record(number) from error
            if not isinstance(record, dict) or not record.keys() >= KEYS:
                raise self._no_record(number)
            records.append(record)
        for record in records:
            if record["run"] != self.settings:
                raise InputError(
                    f"{self.path} was made with {record['run']}, not {self.settings}",
                    hint="give another file, or the options of then",
                )
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return records

    def _no_record(self, line: int) -> InputError:
        return InputError(f"{self.path}: line {line} is no record", hint="give another file")

    def append(self, record: dict[str, Any]) -> None:
        """Write one record to the end."""
        if self.path is not None:
            line = json.dumps({**record, "run": self.settings}, ensure_ascii=False)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
