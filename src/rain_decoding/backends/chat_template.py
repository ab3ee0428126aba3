"""Chat templates: what backends share about control tokens, and messages that a template refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rain_decoding.errors import InputError, RainError, RefusedError, UnsupportedError
from rain_decoding.types import Message, Role

THINKING_START, THINKING_END = "<think>", "</think>"
"""What reasoning stands between."""

LONGEST_MARK = 64
"""Characters of a line that a template writes around messages and that is a mark; longer ones are instructions."""
CONTROL = re.compile(r"<\S+>|\[\S+\]")
"""Added tokens of this form steer the model even where the tokenizer does not call them special."""


def thinking_tags(template: str | None) -> set[str]:
    """The tags of reasoning, where a template knows them: they steer the model even where they are plain text."""
    return {THINKING_START, THINKING_END} if template and THINKING_END in template else set()


NAMES = ("Fir5t", "Sec0nd", "Th1rd", "F0urth")
"""Messages that show what a template writes around messages."""
MARK = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
"""Marks that stand for themselves wherever a template writes them."""


def template_marks(render: Callable[[Sequence[Message]], str]) -> set[str]:
    """What a template writes between messages, as texts that no message may hold: `[/INST]`, `<|user|>`, `USER:`.

    `render` writes messages by the template; what it refuses is not looked at. Words alone are no marks.
    """
    roles: list[Sequence[Role]] = [("user", "assistant", "user"), ("system", "user", "assistant", "user")]
    marks: set[str] = set()
    for asked in roles:
        messages = [Message(role, name) for role, name in zip(asked, NAMES, strict=False)]
        try:
            pieces = _between(render(messages), [message.content for message in messages])
        except (InputError, RefusedError, UnsupportedError):
            continue
        if pieces:
            # Whatever opens the conversation may be a whole paragraph.
            opening = pieces[0].rstrip().rpartition("\n")[2] if asked[0] == "user" else pieces[0]
            marks |= {*MARK.findall(pieces[0])}.union(*map(_marks_in, [opening, *pieces[1:]]))
    return marks


def _between(rendered: str, contents: Sequence[str]) -> list[str]:
    """What stands before, between and behind the contents; nothing if they are not all there, once and in order."""
    pieces, rest = [], rendered
    for content in contents:
        if rest.count(content) != 1:
            return []
        piece, _, rest = rest.partition(content)
        pieces.append(piece)
    return [*pieces, rest]


def _marks_in(piece: str) -> set[str]:
    """The marks in what a template writes: those in brackets, and lines besides that are more than words or signs."""
    lines = (line.strip() for line in MARK.sub("\n", piece).splitlines())
    worded = {line for line in lines if re.search(r"\w", line) and re.search(r"[^\w\s]", line)}
    return {*MARK.findall(piece)} | {line for line in worded if len(line) <= LONGEST_MARK}


def render_or_merge(render: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """The messages as `render` writes them by a template.

    Where the template refuses a system message, or leaves it out, that text opens the next user message instead.
    Raises `InputError`, with the template's words, for messages that it refuses all the same.
    """
    problem: Exception | None = None
    merged = system_into_user(messages)
    try:
        text = render(messages)
        if not merged or not _leaves_out_system(render, messages, text):
            return text
    except Exception as error:
        problem = refusal_of(error)
    if merged:
        try:
            return render(merged)
        except Exception as error:
            problem = refusal_of(error)
    said = problem.reason if isinstance(problem, RefusedError) else problem
    raise InputError(
        f"the chat template rejects these messages: {said}",
        hint="begin with a user message and alternate user and assistant",
    ) from problem


def refusal_of(error: Exception) -> Exception:
    """The error, if it is that of a template, which may be any; raises ours, but for a server's refusal."""
    if isinstance(error, RainError) and not isinstance(error, RefusedError):
        raise error
    return error


def _leaves_out_system(
    render: Callable[[Sequence[Message]], str], messages: Sequence[Message], text: str
) -> bool:
    """Whether the messages are written as they are without some of their system messages."""
    lost = [
        message for message in messages if message.role == "system" and message.content.strip() not in text
    ]
    return bool(lost) and render([message for message in messages if message not in lost]) == text


def system_into_user(messages: Sequence[Message]) -> list[Message]:
    """The messages with system texts moved into the user messages after them; empty if there are none to move."""
    merged: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            merged.append(Message("user", "\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            merged.append(message)
    return merged if len(merged) < len(messages) and not waiting else []
