"""Labelled answers that a probe is fitted on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rain_decoding.errors import CriterionError
from rain_decoding.files import read_text
from rain_decoding.prompting import parse_messages
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import Message


@dataclass(frozen=True, slots=True)
class ReadingExample:
    """An answer to a conversation, and whether it is good. Those of one `group` are held out together."""

    messages: tuple[Message, ...]
    answer: str
    good: bool
    group: str
    kind: str = ""


def examples_of(criterion: Criterion) -> list[ReadingExample]:
    """The labelled answers that a criterion brings; none for one that has no file of them."""
    return [] if criterion.reading_file is None else load_examples(criterion.reading_file)


def everyday_requests() -> list[str]:
    """What is asked for: requests of our own, many of which can be answered either way by many principles."""
    text = (resources.files("rain_decoding") / "self_evaluation" / "reading" / "requests.txt").read_text(
        "utf-8"
    )
    return [line for line in text.split("\n") if line]


def load_examples(path: Path) -> list[ReadingExample]:
    """Examples from JSON lines with `prompt` or `messages`, `answer`, `label` (good or bad), `family` and `kind`.

    Raises `CriterionError` naming file and line for what cannot be read.
    """
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(_example(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CriterionError(f"{path}, line {number}: {error!r}", hint="see docs/criteria.md") from error
    return examples


def _example(data: dict[str, str]) -> ReadingExample:
    labels = {"good": True, "bad": False}
    messages = parse_messages(data["prompt"] if "prompt" in data else data["messages"])
    return ReadingExample(
        messages, data["answer"], labels[data["label"]], data["family"], data.get("kind", "")
    )


def examples_hash(examples: Sequence[ReadingExample]) -> str:
    """SHA-256 of all that a probe learns from."""
    content = [
        [
            [(message.role, message.content) for message in example.messages],
            example.answer,
            example.good,
            example.group,
        ]
        for example in examples
    ]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
