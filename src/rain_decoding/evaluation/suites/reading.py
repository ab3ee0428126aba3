"""Reads the files of suites, plain or gzipped; whatever does not fit is named with file and line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rain_decoding.errors import BackendError, InputError, MissingDependencyError
from rain_decoding.files import UNREADABLE
from rain_decoding.prompting import unicode_text

Place = str
"""File and line, for messages."""
Row = tuple[Place, dict[str, Any]]
MEND = "correct or remove the row"


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file that has at least these columns; in these, no row may be without a value."""
    with _opened(path) as file:
        reader = csv.DictReader(file, strict=True)
        line = 1
        try:
            _check_columns(path, reader.fieldnames or (), columns)
            line = reader.line_num + 1
            for row in reader:
                place, line = f"{path}, line {line}", reader.line_num + 1
                if None in row or None in row.values():
                    found = len(row) - (None in row) - list(row.values()).count(None) + len(row.get(None, ()))
                    raise InputError(
                        f"{place}: {found} values for {len(reader.fieldnames or ())} columns", hint=MEND
                    )
                yield place, checked(place, row, columns)
        except (csv.Error, *UNREADABLE) as error:
            raise InputError(f"{path}, line {line}: {error}", hint=MEND) from error


def read_objects(path: Path) -> Iterator[tuple[Place, Any]]:
    """What stands in a file of JSON lines, or in one JSON list."""
    with _opened(path) as file:
        line = 1
        try:
            text = file.read()
            if text.lstrip().startswith("["):
                yield from (
                    (f"{path}, entry {number}", row) for number, row in enumerate(json.loads(text), 1)
                )
                return
            # Not splitlines(): texts may hold other line separators than the one between objects.
            for line, part in enumerate(text.split("\n"), start=1):
                if part.strip():
                    yield f"{path}, line {line}", json.loads(part)
        except (ValueError, *UNREADABLE) as error:
            raise InputError(f"{path}, line {line}: invalid JSON: {error}", hint=MEND) from error


def checked(place: Place, row: Any, columns: Sequence[str]) -> dict[str, Any]:
    """The row, if it is an object with a text in each of the columns."""
    if not isinstance(row, dict):
        raise InputError(f"{place}: {row!r:.60} is not a JSON object", hint=MEND)
    for column in columns:
        if column not in row:
            raise InputError(f"{place}: there is no {column!r}, only {', '.join(map(str, row))}", hint=MEND)
        if not isinstance(row[column], str) or not row[column].strip():
            raise InputError(f"{place}: {column} = {row[column]!r} is not a string", hint=MEND)
        unicode_text(row[column], f"{place}: {column}")
    return row


def read_table(
    path: Path | None, columns: Sequence[str], hub: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Rows of a CSV file or, without one, of the hub, where columns are called as `names` says (theirs to ours)."""
    if path is not None:
        yield from read_csv(path, columns)
        return
    for place, row in hub_rows(hub, names or {}):
        yield place, checked(place, row, columns)


def hub_rows(arguments: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Row]:
    """Rows of a data set of the Hugging Face hub, columns renamed as in `names` (theirs to ours)."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError(
            "reading data from the hub needs the package datasets",
            hint="pip install datasets, or use a local file with --data",
        ) from error
    try:
        rows = load_dataset(**arguments)
    except Exception as error:
        raise BackendError(
            f"{arguments['path']} cannot be loaded from the hub: {error}", hint="use a local file with --data"
        ) from error
    for number, row in enumerate(rows):
        renamed = {names.get(name, name): value for name, value in row.items()}
        yield f"{arguments['path']}, row {number}", renamed


def _check_columns(path: Path, found: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise InputError(
            f"{path}: there is no column {', '.join(missing)}; its columns are {', '.join(found) or 'none'}",
            hint=f"use a CSV file with a header line that includes {', '.join(columns)}",
        )


def _opened(path: Path) -> TextIO:
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}", hint="see --data") from error
