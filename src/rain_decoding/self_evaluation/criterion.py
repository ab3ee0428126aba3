"""Criteria: what the model judges by, read from TOML files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from rain_decoding.errors import CriterionError
from rain_decoding.types import Message

Verdict = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True, slots=True)
class Example:
    """One few-shot example: a conversation (or a plain text, as one user message), its verdict, and the order shown."""

    messages: tuple[Message, ...]
    is_text: bool
    verdict: Verdict
    first: Verdict


@dataclass(frozen=True, slots=True)
class Criterion:
    """How a judge prompt is made and read (the keys of the TOML file, see docs/criteria.md).

    `labels` has, per option, the surface forms of its label. `statements` are the positive, the negative and, if
    there is one, the neutral statement. `question` names them as {option_1}, {option_2}, {option_3}; a neutral
    statement is always the last option. `lead` begins the judge's answer; the label follows it.
    `prefix` replaces instruction and examples where given (few-shot text from elsewhere).
    """

    name: str
    summary: str
    question: str
    lead: str
    labels: tuple[tuple[str, ...], ...]
    statements: tuple[str, ...]
    instruction: str = ""
    close: str = ")"
    placement: Literal["prefix", "suffix"] = "prefix"
    both_orders: bool = True
    user: str = "Human:"
    assistant: str = "Assistant:"
    separator: str = "\n\n"
    cut_after_full_stop: bool = False
    examples: tuple[Example, ...] = ()
    prefix: str | None = None
    language: str = "en"

    @property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Per prompt, which statement (0 positive, 1 negative, 2 neutral) stands at each option."""
        neutral = (2,) if len(self.statements) == 3 else ()
        forward, swapped = (0, 1, *neutral), (1, 0, *neutral)
        return (forward, swapped) if self.both_orders else (forward,)

    def ask(self, order: Iterable[int]) -> str:
        """The question with the statements in `order`."""
        options = {f"option_{place}": self.statements[index] for place, index in enumerate(order, start=1)}
        return self.question.format(**options)

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts by which a judged text could forge a turn, the options or the answer."""
        fragments = re.split(r"\{option_\d\}", self.question)
        lines = [line.strip() for fragment in fragments for line in fragment.split("\n")]
        return tuple(
            marker for marker in dict.fromkeys([self.user, self.assistant, self.lead, *lines]) if len(marker) > 1
        )


def builtin_criteria() -> dict[str, Path]:
    """Names and files of the criteria that come with the package."""
    folder = Path(str(resources.files("rain_decoding") / "self_evaluation" / "criteria"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_criterion(name: str | Path, *, search_dirs: Iterable[Path] = ()) -> Criterion:
    """The criterion called `name` (a model's own folder first, then the built-in ones), or the TOML file at a path.

    Raises `CriterionError` naming file, key and line where the file is broken, and the known names where there
    is none.
    """
    known = builtin_criteria()
    for folder in search_dirs:
        known |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if str(name) in known:
        return read_criterion(known[str(name)])
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return read_criterion(path)
    raise CriterionError(f"unknown criterion {str(name)!r}", hint=f"criteria: {', '.join(known)}, or a TOML file")


def principle_criterion(principle: str, *, search_dirs: Iterable[Path] = ()) -> Criterion:
    """A criterion from one sentence, such as "The answer is polite.": it holds, or it does not."""
    sentence = principle.strip()
    if not sentence:
        raise CriterionError("the principle is empty", hint='a sentence such as "The answer is polite."')
    base = load_criterion("principle", search_dirs=search_dirs)
    return replace(
        base,
        name=f"principle: {sentence}",
        summary=sentence,
        statements=tuple(statement.replace("{principle}", sentence) for statement in base.statements),
    )


def read_criterion(path: Path) -> Criterion:
    """Read and check one file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CriterionError(f"{path}: {error}", hint="give a readable UTF-8 TOML file") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CriterionError(f"{path} is no valid TOML: {error}") from error
    return _Reader(path, text).criterion(data)


_KEYS: dict[str, dict[str, type]] = {
    "": {"name": str, "summary": str, "language": str},
    "judge": {
        "placement": str,
        "instruction": str,
        "question": str,
        "lead": str,
        "close": str,
        "prefix_file": str,
    },
    "options": {"labels": list, "positive": str, "negative": str, "neutral": str, "both_orders": bool},
    "conversation": {"user": str, "assistant": str, "separator": str, "cut_after_full_stop": bool},
    "examples": {"turns": list, "text": str, "verdict": str, "first": str},
}
_SECTIONS = ("judge", "options", "conversation", "examples")


class _Reader:
    """Checks one file; every complaint names the key and, where it stands in the file, the line."""

    def __init__(self, path: Path, text: str):
        self.path, self.lines = path, text.splitlines()

    def fail(self, section: str, key: str, problem: str, hint: str = "") -> CriterionError:
        where = f"{section}.{key}" if section else key
        number = self._line(section, key)
        return CriterionError(f"{self.path}{f', line {number}' if number else ''}: {where} {problem}", hint=hint)

    def _line(self, section: str, key: str) -> int | None:
        """The line of `key` in `section`, else the line of the section's header."""
        current, header = "", None
        for number, line in enumerate(self.lines, start=1):
            if match := re.match(r"\s*\[\[?\s*([\w.]+)\s*\]\]?", line):
                current = match.group(1)
                header = number if current == section and header is None else header
            elif current == section and re.match(rf"\s*{re.escape(key)}\s*=", line):
                return number
        return header

    def criterion(self, data: Mapping[str, Any]) -> Criterion:
        self._check_keys("", {key: value for key, value in data.items() if key not in _SECTIONS})
        sections = {name: data.get(name, {}) for name in _SECTIONS[:3]}
        for name, section in sections.items():
            if not isinstance(section, dict):
                raise self.fail("", name, "must be a table", hint=f"write [{name}]")
            self._check_keys(name, section)
        judge, options, conversation = (sections[name] for name in _SECTIONS[:3])
        statements = self._statements(options)
        criterion = Criterion(
            name=self._need("", data, "name"),
            summary=data.get("summary", ""),
            language=data.get("language", "en"),
            question=self._question(judge, len(statements)),
            lead=self._need("judge", judge, "lead"),
            labels=self._labels(options, len(statements)),
            statements=statements,
            instruction=judge.get("instruction", ""),
            close=judge.get("close", ")"),
            placement=self._choice("judge", judge, "placement", ("prefix", "suffix")),
            both_orders=options.get("both_orders", True),
            prefix=self._prefix_file(judge),
            examples=self._examples(data.get("examples", []), len(statements)),
            **conversation,
        )
        for key in ("user", "assistant"):
            if not getattr(criterion, key).strip():
                raise self.fail("conversation", key, "is empty")
        return criterion

    def _check_keys(self, section: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if key not in _KEYS[section]:
                allowed = [*_KEYS[section], *(_SECTIONS if not section else ())]
                raise self.fail(section, key, "is unknown", hint=f"keys: {', '.join(allowed)}")
            if not isinstance(value, _KEYS[section][key]):
                raise self.fail(section, key, f"= {value!r} must be a {_KEYS[section][key].__name__}")

    def _need(self, section: str, table: Mapping[str, Any], key: str) -> str:
        if not str(table.get(key, "")).strip():
            raise self.fail(section, key, "is missing or empty")
        return table[key]

    def _choice(self, section: str, table: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
        value = table.get(key, allowed[0])
        if value not in allowed:
            raise self.fail(section, key, f"= {value!r}", hint=f"allowed: {', '.join(allowed)}")
        return value

    def _question(self, judge: Mapping[str, Any], options: int) -> str:
        question = self._need("judge", judge, "question")
        names = {f"option_{place}": "" for place in range(1, options + 1)}
        try:
            question.format(**names)
        except (KeyError, IndexError, ValueError) as error:
            raise self.fail(
                "judge", "question", f"has a placeholder that does not fit: {error}", hint=f"allowed: {set(names)}"
            ) from error
        return question

    def _statements(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        statements = [self._need("options", options, key) for key in ("positive", "negative")]
        if "neutral" in options:
            statements.append(self._need("options", options, "neutral"))
        if len(set(statements)) < len(statements):
            raise self.fail("options", "negative", "says the same as another statement")
        return tuple(statements)

    def _labels(self, options: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], ...]:
        raw = options.get("labels")
        if not raw:
            raise self.fail("options", "labels", "is missing or empty", hint='for example labels = ["A", "B"]')
        labels = tuple((entry,) if isinstance(entry, str) else tuple(entry) for entry in raw)
        if len(labels) != count:
            raise self.fail("options", "labels", f"has {len(labels)} entries for {count} statements")
        forms = [form for label in labels for form in label]
        if not all(labels) or not all(isinstance(form, str) and form for form in forms):
            raise self.fail("options", "labels", "has an empty label")
        if len(set(forms)) < len(forms):
            raise self.fail("options", "labels", "names one label twice")
        return labels

    def _prefix_file(self, judge: Mapping[str, Any]) -> str | None:
        if "prefix_file" not in judge:
            return None
        path = self.path.parent / judge["prefix_file"]
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise self.fail("judge", "prefix_file", f"cannot be read: {error}") from error

    def _examples(self, tables: Any, statements: int) -> tuple[Example, ...]:
        if not isinstance(tables, list):
            raise self.fail("", "examples", "must be a list of tables", hint="write [[examples]]")
        return tuple(self._example(table, statements) for table in tables)

    def _example(self, table: Mapping[str, Any], statements: int) -> Example:
        self._check_keys("examples", table)
        verdicts = ("positive", "negative", "neutral")[:statements]
        if table.get("verdict") not in verdicts:
            raise self.fail("examples", "verdict", f"= {table.get('verdict')!r}", hint=f"allowed: {verdicts}")
        if ("turns" in table) == ("text" in table):
            raise self.fail("examples", "turns", "or text is needed, not both")
        turns = table.get("turns", [table.get("text")])
        if not all(isinstance(turn, str) for turn in turns) or ("turns" in table and len(turns) % 2):
            raise self.fail("examples", "turns", f"= {turns!r} must be pairs of a user's and an assistant's text")
        return Example(
            tuple(Message("assistant" if index % 2 else "user", turn) for index, turn in enumerate(turns)),
            "text" in table,
            table["verdict"],
            self._choice("examples", table, "first", ("positive", "negative")),
        )
