"""Answers whose label is known, from files of labelled answers or of pairs."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np

from rain_decoding import near_misses
from rain_decoding.errors import InputError
from rain_decoding.files import UNREADABLE, unix_lines
from rain_decoding.prompting import (
    ASSISTANT_MARKER,
    SEPARATOR,
    USER_MARKER,
    parse_messages,
    unicode_text,
)
from rain_decoding.self_evaluation.criterion import Criterion, Verdict
from rain_decoding.types import Message, Role

FORMS = (
    'a line holds "prompt" or "messages" with "answer" and "label", or with "chosen" and "rejected"; or '
    f'"chosen" and "rejected" alone, as whole transcripts with "{USER_MARKER}" and "{ASSISTANT_MARKER}" turns; '
    "FILE#prompt=NAME&label=NAME reads keys, or columns of a table, that are called otherwise"
)
LABELS: dict[str, Verdict] = {
    **dict.fromkeys(("good", "positive", "true", "1"), "positive"),
    **dict.fromkeys(("bad", "negative", "false", "0"), "negative"),
    "neutral": "neutral",
}
"""Words for a label, in any case; true, false, 1 and 0 may also stand without quotes."""
LABELLED, PAIR = ("prompt", "answer", "label"), ("chosen", "rejected")
COLUMNS = (*LABELLED, *PAIR)
"""What columns of a table, and keys of JSON, are called here."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ROLES: dict[str, Role] = {USER_MARKER: "user", ASSISTANT_MARKER: "assistant"}


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer to a prompt, and whether it is good: what a perfect judge says of it.

    Answers of one `group` belong together (the two of a pair, all to one request): they are compared with each
    other and resampled together. `cut` says that the answer is the beginning of a longer one.
    """

    messages: tuple[Message, ...]
    answer: str
    label: Verdict
    group: int
    cut: bool = False


Row = tuple[LabelledAnswer, ...]
"""What one line of a file holds: an answer, or the two of a pair."""


def read_labelled(path: Path, n: int | None = None, *, seed: int = 0) -> list[LabelledAnswer]:
    """The answers in a JSONL file or a CSV file (either may end in .gz), or those of `n` lines drawn from it by `seed`.

    The columns of a CSV file (`.csv`, or `.tsv`) are named by its first row as the keys of JSON are; where either have
    other names, `answers.csv#prompt=question&label=verdict` says which stands for which. A pair's chosen answer counts
    as good, its rejected one as bad. The file is read as a stream; its lines stay in their order. Raises `InputError`
    naming file and line for a line of another form.
    """
    kept: list[tuple[int, Row]] = []
    rng = np.random.default_rng(seed)
    for count, (number, row) in enumerate(_rows(path)):
        if n is None or count < n:
            kept.append((number, row))
        elif (place := int(rng.integers(count + 1))) < n:
            kept[place] = (number, row)
    return [answer for _, row in sorted(kept, key=lambda entry: entry[0]) for answer in row]


def check_labels(criterion: Criterion, answers: Iterable[LabelledAnswer]) -> None:
    """Raises `InputError` where labels are missing that a calibration needs, or one that it cannot use is there."""
    labels = {answer.label for answer in answers if not answer.cut}
    if not labels >= {"positive", "negative"}:
        found = ", ".join(sorted(labels)) or "nothing"
        raise InputError(f"the answers are labelled {found}", hint="use both good and bad answers")
    if "neutral" in labels and len(criterion.statements) < 3:
        raise InputError(
            f"some answers are labelled neutral, but the criterion {criterion.name!r} has no neutral statement",
            hint="leave them out, or use another criterion",
        )


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Line numbers and what the lines hold; empty lines are left out."""
    path, columns = _named(path)
    try:
        with _open(path) as file:
            separator = SEPARATORS.get(Path(path.name.removesuffix(".gz")).suffix)
            if separator is not None:
                yield from _table(path, file, separator, columns)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(path, number, line, columns)
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}", hint="use a UTF-8 JSONL or CSV file") from error


def _named(path: Path) -> tuple[Path, dict[str, str]]:
    """The file, and by our names for its columns or keys those that it has."""
    file, mark, named = str(path).partition("#")
    if not mark or path.exists():
        return path, {}
    columns = dict(pair.partition("=")[::2] for pair in named.split("&"))
    if unknown := columns.keys() - COLUMNS:
        raise InputError(
            f"{path}: unknown {sorted(unknown)[0]!r}",
            hint=f"name columns of {', '.join(COLUMNS)}, as prompt=question",
        )
    return Path(file), columns


def _table(
    path: Path, file: IO[str], separator: str, columns: Mapping[str, str]
) -> Iterator[tuple[int, Row]]:
    rows = csv.DictReader(file, delimiter=separator)
    there = rows.fieldnames or ()
    if missing := [name for name in columns.values() if name not in there]:
        raise InputError(
            f"{path} has no column {missing[0]!r}", hint=near_misses.hint(missing[0], there, "columns")
        )
    _check_columns(path, there, columns)
    try:
        for row in rows:
            data = {name: value for name, value in _renamed(row, columns).items() if name in COLUMNS}
            if any(value for value in data.values()):
                yield rows.line_num, _checked(path, rows.line_num, data)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {rows.line_num}: {error}", hint="use a CSV file with a row of names"
        ) from error


def _check_columns(path: Path, there: Sequence[str], columns: Mapping[str, str]) -> None:
    """Raise `InputError` where none stands for what every row needs."""
    named = ({*there} - {*columns.values()}) | columns.keys()
    needed = PAIR if named & {*PAIR} else LABELLED
    if missing := [name for name in needed if name not in named]:
        raise InputError(
            f"{path} has no column {missing[0]!r}",
            hint=f"{near_misses.hint(missing[0], there, 'columns')}; {path.name}#{missing[0]}=COLUMN takes another one",
        )


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _row(path: Path, number: int, line: str, keys: Mapping[str, str]) -> Row:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number}: not valid JSON: {error}", hint=FORMS) from error
    if isinstance(data, dict):
        if missing := [key for key in keys.values() if key not in data]:
            hint = near_misses.hint(missing[0], data, "keys")
            raise InputError(f"{path}, line {number}: there is no {missing[0]!r}", hint=hint)
        data = _renamed(data, keys)
    return _checked(path, number, data)


def _renamed(line: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """What a line holds, under our names where `columns` has one for its own."""
    others = {name: value for name, value in line.items() if name not in columns.values()}
    return others | {name: line[column] for name, column in columns.items()}


def _checked(path: Path, number: int, data: Any) -> Row:
    try:
        if not isinstance(data, dict):
            raise InputError("not a JSON object", hint=FORMS)
        return _pair(data, number) if "chosen" in data else (_answer(data, number),)
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error.args[0]}", hint=error.hint) from error


def _answer(data: Mapping[str, Any], number: int) -> LabelledAnswer:
    label = data.get("label")
    # JSON's true and 1 are labels as well as the words.
    word = str(label).lower() if isinstance(label, (str, int)) else ""
    if word not in LABELS:
        problem = f"label = {label!r}" if "label" in data else "there is no label"
        raise InputError(problem, hint=f"labels: {', '.join(LABELS)}" if "label" in data else FORMS)
    return LabelledAnswer(_prompt(data), _text(data, "answer"), LABELS[word], number)


def _pair(data: Mapping[str, Any], number: int) -> Row:
    """The chosen answer and the rejected one."""
    asked = "prompt" in data or "messages" in data
    labels: dict[str, Verdict] = {"chosen": "positive", "rejected": "negative"}
    row = []
    for key, label in labels.items():
        text = _text(data, key)
        messages, answer = (_prompt(data), text) if asked else _transcript(text, key)
        row.append(LabelledAnswer(messages, answer, label, number))
    return tuple(row)


def _prompt(data: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in data) == ("messages" in data):
        raise InputError('either "prompt" or "messages" is needed', hint=FORMS)
    return parse_messages(data["prompt"] if "prompt" in data else data["messages"])


def _text(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data.get(key), str):
        raise InputError(f"{key} = {data.get(key)!r} is not a string", hint=FORMS)
    return unicode_text(data[key], key)


def _transcript(text: str, key: str) -> tuple[tuple[Message, ...], str]:
    """Prompt and last answer of a dialogue that is written out, as in HH.

    What one speaker says in several turns, as some of HH do, is one turn.
    """
    begin, *parts = re.split(f"{SEPARATOR}({USER_MARKER}|{ASSISTANT_MARKER})", unix_lines(text))
    said = zip(parts[::2], parts[1::2], strict=True)
    turns = [
        Message(ROLES[marker], SEPARATOR.join(part.strip() for _, part in own))
        for marker, own in groupby(said, key=itemgetter(0))
    ]
    if begin.strip() or len(turns) < 2 or turns[-1].role != "assistant":
        raise InputError(
            f'{key} is not a transcript that begins with "{USER_MARKER}" and ends with an assistant\'s answer',
            hint=FORMS,
        )
    return parse_messages(turns[:-1]), turns[-1].content
