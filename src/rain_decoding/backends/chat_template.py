"""Chat templates: what backends share about control tokens, and messages that a template refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rain_decoding.errors import InputError
from rain_decoding.types import Message

THINKING_START, THINKING_END = "<think>", "</think>"
"""What reasoning stands between."""

CONTROL = re.compile(r"<\S+>|\[\S+\]")
"""Added tokens of this form steer the model even where the tokenizer does not call them special."""


def thinking_tags(template: str | None) -> set[str]:
    """The tags of reasoning, where a template knows them: they steer the model even where they are plain text."""
    return {THINKING_START, THINKING_END} if template and THINKING_END in template else set()


def render_or_merge(render: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """The messages as `render` writes them by a Jinja template.

    Where the template refuses a system message, that text opens the first user message instead. Raises
    `InputError` for messages that it refuses all the same.
    """
    from jinja2.exceptions import TemplateError

    try:
        return render(messages)
    except TemplateError as error:
        problem = error
    if merged := _system_into_user(messages):
        try:
            return render(merged)
        except TemplateError as error:
            problem = error
    raise InputError(
        f"the chat template rejects these messages: {problem}",
        hint="begin with a user message and alternate user and assistant",
    ) from problem


def _system_into_user(messages: Sequence[Message]) -> list[Message]:
    """The messages with leading system texts moved into the user message after them; empty if none lead."""
    count = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    if not 0 < count < len(messages) or messages[count].role != "user":
        return []
    text = "\n\n".join(message.content for message in messages[: count + 1])
    return [Message("user", text), *messages[count + 1 :]]
