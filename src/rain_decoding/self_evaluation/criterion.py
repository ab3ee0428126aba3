"""Criteria: what the model judges by, read from TOML files."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args

from rain_decoding import near_misses
from rain_decoding.backends.local import CRITERIA_FOLDER
from rain_decoding.demo import CRITERIA_DIR
from rain_decoding.errors import CriterionError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.plugins import Registry
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import Message

Verdict = Literal["positive", "negative", "neutral"]

Placement = Literal["prefix", "suffix", "template"]
"""Where the question stands: behind few-shot text and the conversation, behind generation's own conversation, or
in the judge's chat template."""

Place = tuple[str | int, ...]
"""Where something stands in a TOML file: keys, and positions in lists."""

PRINCIPLE = "{principle}"
"""Stands for the sentence in the statements of `principle.toml`."""


@dataclass(frozen=True, slots=True)
class Example:
    """A few-shot example: conversation (or a plain text, as one user message), verdict, and order shown."""

    messages: tuple[Message, ...]
    is_text: bool
    verdict: Verdict
    first: Verdict


@dataclass(frozen=True, slots=True)
class Criterion:
    """How a judge prompt is made and read (the keys of the TOML file, see docs/criteria.md).

    `labels` has, per option, the surface forms of its label. `statements` are the positive, the negative and,
    if there is one, the neutral statement. `question` names them as {option_1}, {option_2}, {option_3}; a
    neutral statement is always the last option. `lead` begins the judge's answer; the label follows it.
    `prefix` replaces instruction and examples where given (few-shot text from elsewhere). With the placement
    "template" the judge's chat template asks; `breaks` are further texts of it that nothing judged may hold.
    """

    name: str
    summary: str
    question: str
    lead: str
    labels: tuple[tuple[str, ...], ...]
    statements: tuple[str, ...]
    instruction: str = ""
    close: str = ")"
    placement: Placement = "prefix"
    suffix_as_good: bool = False
    """Whether the model that brings this file was found to judge as well with the question behind the conversation."""
    system: bool = False
    """Whether a chat model gets the instruction as a system message."""
    both_orders: bool = True
    user: str = "Human:"
    assistant: str = "Assistant:"
    separator: str = "\n\n"
    cut_after_full_stop: bool = False
    breaks: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    prefix: str | None = None
    language: str = "en"
    reading_file: Path | None = None
    """Labelled answers that a probe may be fitted on (see docs/reading.md), where there are any."""
    guidance: Guidance | None = None
    """What is said to the model that is to follow it, where there is something."""

    @property
    def asks_for(self) -> str:
        """What a model is told to be, in order to answer so that the judge finds it good."""
        if self.guidance is not None:
            return self.guidance.instruction
        return f"Whatever you are asked, this must be true: {self.statements[0]}"

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
        """Texts by which a judged text could forge a turn, the options or the answer.

        Of the question, that is how its lines begin, up to the first statement, where a punctuation mark
        ends it: "Options:", "(A)". What ends in a letter may be a word that any text uses.
        """
        begins = [line.split("{", 1)[0].strip() for line in self.question.split("\n")]
        lines = [text for text in begins if len(text) > 1 and not text[-1].isalnum()]
        fixed = [
            text.strip() for text in (self.user, self.assistant, self.lead, self.separator, *self.breaks)
        ]
        return tuple(dict.fromkeys(text for text in (*fixed, *lines) if text))


def _files(folders: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def brought_criteria(places: Iterable[Path]) -> dict[str, Path]:
    """Names and files of criteria that come with a model, in folders or as single files.

    Where a folder `rain_criteria` came with the model's weights, what is called like a criterion of ours does not
    replace it: a warning says so. The demo model's own short forms do, wherever they were copied.
    """
    found: dict[str, Path] = {}
    for place in places:
        files = {place.stem: place} if place.is_file() else _files([place])
        if place.name == CRITERIA_FOLDER:
            known = {path.read_bytes() for path in CRITERIA_DIR.glob("*.toml")}
            replacing = [
                name
                for name, path in files.items()
                if name in CRITERIA.own and path.read_bytes() not in known
            ]
            if replacing:
                warnings.warn(
                    f"{place} holds criteria with names of ours, which are not used: {', '.join(replacing)}; "
                    "rename them, name their file as the criterion, or load the model with trust_model_criteria=True",
                    stacklevel=3,
                )
            files = {name: path for name, path in files.items() if name not in replacing}
        found |= files
    return found


FOLDER = Path(str(resources.files("rain_decoding") / "self_evaluation" / "criteria"))
CRITERIA: Registry[Path] = Registry(
    "rain_decoding.criteria", Path, _files([FOLDER]).values(), name_of=attrgetter("stem")
)
"""Files of criteria. What a package adds is the `Path` of a TOML file that is called as the criterion."""


def builtin_criteria() -> dict[str, Path]:
    """Names and files of the criteria that come with this package."""
    return dict(CRITERIA.own)


def known_criteria(search_dirs: Iterable[Path] = ()) -> dict[str, Path]:
    """Names and files of `CRITERIA`, and of those in `search_dirs`, which take precedence."""
    return {**CRITERIA, **brought_criteria(search_dirs)}


def load_criterion(name: str | Path, *, search_dirs: Iterable[Path] = ()) -> Criterion:
    """Load a criterion.

    Args:
        name: A name, or the path of a TOML file.
        search_dirs: Folders searched before the known criteria, such as the model's own.

    Raises:
        CriterionError: The file is broken (the message names file, line and key), or there is none (the hint has
            the known names).
    """
    criterion = _find(name, search_dirs)
    if any(PRINCIPLE in statement for statement in criterion.statements):
        raise CriterionError(
            f"{name} is not a criterion but the template for principles", hint="use --principle SENTENCE"
        )
    return criterion


def principle_criterion(principle: str, *, search_dirs: Iterable[Path] = ()) -> Criterion:
    """A criterion from one sentence that holds for an answer, or does not.

    Args:
        principle: A sentence such as "The answer is polite."
        search_dirs: Folders searched for a `principle.toml` before the built-in one.

    Raises:
        CriterionError: The principle is empty, or the file is broken.
    """
    sentence = " ".join(principle.split())
    if not sentence:
        raise CriterionError("the principle is empty", hint='use a sentence such as "The answer is polite."')
    base = _find("principle", search_dirs)
    return replace(
        base,
        name=f"principle: {sentence}",
        summary=sentence,
        statements=tuple(statement.replace(PRINCIPLE, sentence) for statement in base.statements),
        guidance=base.guidance and base.guidance.about(sentence, PRINCIPLE),
    )


def _find(name: str | Path, search_dirs: Iterable[Path]) -> Criterion:
    own, path = brought_criteria(search_dirs), Path(name)
    if str(name) in own:
        return read_criterion(own[str(name)], inside=True)
    if path.suffix != ".toml" and str(name) in CRITERIA:
        return read_criterion(CRITERIA[str(name)])
    if path.suffix == ".toml" or path.is_file():
        return read_criterion(path)
    known = dict.fromkeys((*CRITERIA, *own))
    raise CriterionError(
        f"unknown criterion {str(name)!r}",
        hint=f"{near_misses.hint(str(name), known, 'criteria')}; or use a TOML file",
    )


def read_criterion(path: Path, *, inside: bool = False) -> Criterion:
    """Read and check one file; with `inside`, it may name other files of its own folder only."""
    try:
        text = read_text(path)
    except UNREADABLE as error:
        raise CriterionError(
            f"{path} cannot be read: {error}", hint="use a readable UTF-8 TOML file"
        ) from error
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CriterionError(f"{path} is not valid TOML: {error}") from error
    return _Reader(path, text, inside).criterion(data)


_KEYS: dict[str, dict[str, type]] = {
    "": {"name": str, "summary": str, "language": str, "reading_file": str},
    "judge": {
        "placement": str,
        "suffix_as_good": bool,
        "instruction": str,
        "system": bool,
        "question": str,
        "lead": str,
        "close": str,
        "prefix_file": str,
    },
    "options": {"labels": list, "positive": str, "negative": str, "neutral": str, "both_orders": bool},
    "conversation": {
        "user": str,
        "assistant": str,
        "separator": str,
        "cut_after_full_stop": bool,
        "breaks": list,
    },
    "examples": {"turns": list, "text": str, "verdict": str, "first": str},
    "guidance": {field.name: list if field.name == "examples" else str for field in fields(Guidance)},
}
_MOVED: dict[Place, str] = {("system_message",): "write it as `system` of [guidance]"}
"""Keys of older files."""
_SECTIONS = ("judge", "options", "conversation", "guidance", "examples")


class _Reader:
    """Checks one file; every complaint names the key and the line.

    A place in the file is a path of keys and, for examples, positions: ("examples", 2, "turns").
    """

    def __init__(self, path: Path, text: str, inside: bool = False):
        self.path, self.lines, self.inside = path, text.split("\n"), inside

    def fail(self, place: Place, problem: str, hint: str = "") -> CriterionError:
        name = ".".join(key for key in place if isinstance(key, str))
        return CriterionError(f"{self.path}, line {self._line(place)}: {name} {problem}", hint=hint)

    def _line(self, place: Place) -> int:
        """The line where what stands at `place` begins; where it is missing, that of the table that lacks it.

        It is the first line of the statement after which the file, read up to there, holds it.
        """
        if not place:
            return 1
        begin = 1
        for end in range(1, len(self.lines) + 1):
            try:
                data = tomllib.loads("\n".join(self.lines[:end]))
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a statement
            if _holds(data, place):
                read = self.lines[begin - 1 : end]
                return begin + sum(1 for _ in takewhile(lambda line: not line.split("#")[0].strip(), read))
            begin = end + 1
        return self._line(place[:-1])

    def criterion(self, data: Mapping[str, Any]) -> Criterion:
        self._check_keys((), {key: value for key, value in data.items() if key not in _SECTIONS})
        sections = {name: data.get(name, {}) for name in _SECTIONS[:4]}
        for name, section in sections.items():
            if not isinstance(section, dict):
                raise self.fail((name,), "is not a table", hint=f"write [{name}]")
            self._check_keys((name,), section)
        judge, options, conversation, guidance = sections.values()
        placement: Placement = self._choice(("judge",), judge, "placement", get_args(Placement))
        if placement == "template":
            self._check_template(data)
        for key in ("user", "assistant"):
            if not conversation.get(key, key).strip():
                raise self.fail(("conversation", key), "is empty")
        statements = self._statements(options)
        asked = placement != "template"
        both_orders = options.get("both_orders", asked)
        return Criterion(
            name=self._need((), data, "name"),
            summary=data.get("summary", ""),
            language=data.get("language", "en"),
            question=self._question(judge, len(statements), both_orders) if asked else "",
            lead=self._lead(judge) if asked else judge.get("lead", ""),
            labels=self._labels(options, len(statements)),
            statements=statements,
            instruction=judge.get("instruction", ""),
            system=judge.get("system", False),
            close=judge.get("close", ")"),
            placement=placement,
            suffix_as_good=judge.get("suffix_as_good", False),
            both_orders=both_orders,
            prefix=self._prefix_file(judge),
            reading_file=self._reading_file(data),
            examples=self._examples(data.get("examples", []), len(statements)),
            guidance=self._guidance(guidance) if guidance else None,
            **{**conversation, "breaks": self._breaks(conversation)},
        )

    def _reading_file(self, data: Mapping[str, Any]) -> Path | None:
        if "reading_file" not in data:
            return None
        path = self._named(("reading_file",), self._need((), data, "reading_file"))
        if not path.is_file():
            raise self.fail(("reading_file",), f"names {path}, which is not a file")
        return path.resolve()

    def _guidance(self, guidance: Mapping[str, Any]) -> Guidance:
        for key in ("principle", "decline"):
            self._need(("guidance",), guidance, key)
        examples = guidance.get("examples", [])
        if not all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(text, str) and text.strip() for text in pair)
            for pair in examples
        ):
            raise self.fail(("guidance", "examples"), f"= {examples!r} is not made of pairs of texts")
        return Guidance(**{**guidance, "examples": tuple((asked, answer) for asked, answer in examples)})

    def _check_template(self, data: Mapping[str, Any]) -> None:
        """Refuse what a chat template leaves no place for."""
        hint = "leave it out: the judge's own chat template asks the question"
        for key in ("instruction", "system", "question", "close", "prefix_file"):
            if key in data.get("judge", {}):
                raise self.fail(("judge", key), "cannot be used with a chat template", hint=hint)
        if data.get("options", {}).get("both_orders"):
            raise self.fail(("options", "both_orders"), "cannot be used with a chat template", hint=hint)
        if data.get("examples"):
            raise self.fail(("examples",), "cannot be used with a chat template", hint=hint)

    def _breaks(self, conversation: Mapping[str, Any]) -> tuple[str, ...]:
        texts = conversation.get("breaks", [])
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise self.fail(("conversation", "breaks"), f"= {texts!r} is not a list of non-empty strings")
        return tuple(texts)

    def _check_keys(self, place: Place, table: Mapping[str, Any]) -> None:
        section = str(place[0]) if place else ""
        for key, value in table.items():
            if key not in _KEYS[section]:
                allowed = [*_KEYS[section], *(_SECTIONS if not section else ())]
                hint = _MOVED.get((*place, key), f"keys: {', '.join(allowed)}")
                raise self.fail((*place, key), "is not a known key", hint=hint)
            if not isinstance(value, _KEYS[section][key]):
                raise self.fail((*place, key), f"= {value!r} is not a {_KEYS[section][key].__name__}")

    def _need(self, place: Place, table: Mapping[str, Any], key: str) -> str:
        text: str = table.get(key, "")
        if not text.strip():
            raise self.fail((*place, key), "is missing or empty")
        return text

    def _lead(self, judge: Mapping[str, Any]) -> str:
        """What begins the judge's answer; it may be empty, but not forgotten."""
        if "lead" not in judge:
            raise self.fail(
                ("judge", "lead"), "is missing", hint='write lead = "" where the label comes first'
            )
        lead: str = judge["lead"]
        if lead and not lead.strip():
            raise self.fail(("judge", "lead"), f"= {lead!r} is blank", hint='write words, or lead = ""')
        return lead

    def _choice(self, place: Place, table: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
        value = table.get(key, allowed[0])
        if value not in allowed:
            raise self.fail(
                (*place, key), f"= {value!r} is not allowed", hint=f"use one of: {', '.join(allowed)}"
            )
        return value

    def _question(self, judge: Mapping[str, Any], options: int, both_orders: bool) -> str:
        """The question; it names every statement, or, where it is asked in one order, perhaps none."""
        question, place = self._need(("judge",), judge, "question"), ("judge", "question")
        wanted = {f"option_{number}" for number in range(1, options + 1)}
        hint = f"placeholders: {{{'}, {'.join(sorted(wanted))}}}; double all other braces"
        try:
            fields = [field for _, *field in Formatter().parse(question) if field[0] is not None]
        except ValueError as error:
            raise self.fail(place, f"has a stray brace: {error}", hint=hint) from error
        names = {name for name, *_ in fields}
        if not names <= wanted or any(spec or conversion for _, spec, conversion in fields):
            raise self.fail(place, "has an unknown placeholder", hint=hint)
        # A statement and Yes or No about it are asked in both orders, too.
        if names != wanted and names != {"option_1"} and (names or both_orders):
            missing = ", ".join(sorted(wanted - names))
            hint = "a question without placeholders needs options.both_orders = false"
            raise self.fail(place, f"lacks the placeholders {missing}", hint=hint)
        return question

    def _statements(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        keys = ("positive", "negative", *(["neutral"] if "neutral" in options else []))
        statements = tuple(self._need(("options",), options, key) for key in keys)
        for index, key in enumerate(keys):
            if statements[index] in statements[:index]:
                raise self.fail(("options", key), "says the same as another statement")
        return statements

    def _labels(self, options: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], ...]:
        place, raw = ("options", "labels"), options.get("labels")
        if not raw:
            raise self.fail(place, "is missing or empty", hint='for example, labels = ["A", "B"]')
        if len(raw) != count:
            raise self.fail(place, f"has {len(raw)} entries for {count} statements")
        labels = tuple(tuple(entry) if isinstance(entry, list) else (entry,) for entry in raw)
        forms = [form for label in labels for form in label]
        if not all(labels) or not all(isinstance(form, str) and form.strip() for form in forms):
            raise self.fail(place, f"= {raw!r} is not made of non-empty strings, or lists of them")
        if len(set(forms)) < len(forms):
            raise self.fail(place, "names a label twice")
        return labels

    def _named(self, place: Place, name: str) -> Path:
        """Another file that this one names."""
        path, folder = self.path.parent / name, self.path.parent.resolve()
        blobs = folder.parent.parent.parent / "blobs"  # where the hub's cache keeps what its folders link to
        if self.inside and not any(
            path.resolve().is_relative_to(root) for root in (folder, *([blobs] if path.is_symlink() else []))
        ):
            raise self.fail(place, f"names {name}, which is outside of the model's folder {folder}")
        return path

    def _prefix_file(self, judge: Mapping[str, Any]) -> str | None:
        if "prefix_file" not in judge:
            return None
        path = self._named(("judge", "prefix_file"), judge["prefix_file"])
        try:
            return read_text(path)
        except UNREADABLE as error:
            raise self.fail(("judge", "prefix_file"), f"cannot be read: {error}") from error

    def _examples(self, tables: Any, statements: int) -> tuple[Example, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.fail(("examples",), "is not a list of tables", hint="write [[examples]]")
        return tuple(
            self._example(("examples", index), table, statements) for index, table in enumerate(tables)
        )

    def _example(self, place: Place, table: Mapping[str, Any], statements: int) -> Example:
        self._check_keys(place, table)
        verdicts = ("positive", "negative", "neutral")[:statements]
        if table.get("verdict") not in verdicts:
            hint = f"use one of: {', '.join(verdicts)}"
            raise self.fail((*place, "verdict"), f"= {table.get('verdict')!r} is not allowed", hint=hint)
        if ("turns" in table) == ("text" in table):
            raise self.fail((*place, "turns"), "or text is needed, and not both")
        turns = table.get("turns", [table.get("text")])
        pairs = "text" in table or (turns and len(turns) % 2 == 0)
        if not pairs or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            problem = f"= {turns!r} is not made of pairs of a user's and an assistant's text"
            raise self.fail((*place, "turns"), problem)
        return Example(
            tuple(Message("assistant" if index % 2 else "user", turn) for index, turn in enumerate(turns)),
            "text" in table,
            table["verdict"],
            self._choice(place, table, "first", ("positive", "negative")),
        )


def _holds(data: Any, place: Place) -> bool:
    """Whether there is something at `place`."""
    for key in place:
        if not (key in data if isinstance(data, dict) else key in range(len(data))):
            return False
        data = data[key]
    return True
