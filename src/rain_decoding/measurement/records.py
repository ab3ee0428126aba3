"""Files of JSON lines that an evaluation keeps: nothing finished is lost, and nothing is done twice."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rain_decoding.errors import InputError
from rain_decoding.files import append_line, cut_to_whole_lines, json_line, write_whole

Record = dict[str, Any]
LOCK = ".lock"
"""The file by which a process holds a run's folder; it stays there."""


def lock_folder(folder: Path) -> FileLock:
    """Keep a run's folder to this process, until the lock is released or the process ends, however it does.

    Raises `InputError` where another holds it.
    """
    lock = FileLock(folder / LOCK, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{folder} is in use by another process", hint="wait for it to finish, or choose another --out"
        ) from error
    return lock


class RecordFile:
    """Records as JSON lines. `keys` is what every record has, with its types. Without a path nothing is kept."""

    def __init__(self, path: Path | None, keys: Mapping[str, Any]):
        self.path, self.keys = path, keys

    def read(self) -> list[Record]:
        """The records of earlier runs; the end of a line that a crash cut off is removed.

        Raises `InputError` for a file that holds something else.
        """
        if self.path is None or not self.path.exists():
            return []
        content = self.path.read_bytes().removeprefix(BOM_UTF8)
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole and not self._begins_as_record(content):
            raise self._no_record(1)
        records = [self._parse(number, line) for number, line in enumerate(whole.split(b"\n")[:-1], start=1)]
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                cut_to_whole_lines(file)
        return records

    def append(self, record: Record, *, durable: bool = False) -> None:
        """Write one record to the end, or nothing where that fails. With `durable`, it survives a power cut."""
        if self.path is not None:
            append_line(self.path, json_line(record), durable=durable)

    def write(self, records: Iterable[Record]) -> None:
        """Put these in the place of all that the file holds, at once."""
        if self.path is not None:
            write_whole(self.path, b"".join(map(json_line, records)))

    def _parse(self, number: int, line: bytes) -> Record:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._no_record(number) from error
        if not isinstance(record, dict) or not all(
            key in record and isinstance(record[key], kind) for key, kind in self.keys.items()
        ):
            raise self._no_record(number)
        return record

    def _begins_as_record(self, content: bytes) -> bool:
        """Whether the only line there is may be a record that was cut off."""
        return content.startswith(b'{"')

    def _no_record(self, line: int) -> InputError:
        return InputError(f"{self.path}: line {line} is not a record", hint="correct or remove the line")
