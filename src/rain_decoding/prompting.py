"""From messages or text to the tokens that generation starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rain_decoding.backends.base import Backend
from rain_decoding.backends.chat_template import THINKING_END, THINKING_START, system_into_user
from rain_decoding.control_text import without_control_tokens
from rain_decoding.errors import ContextLengthError, InputError
from rain_decoding.types import Message, Role, Tokens

PromptFormat = Literal["auto", "chat", "dialogue", "text"]
"""chat: the model's chat template; dialogue: plain `Human:` / `Assistant:` turns; text: the prompt is
continued as it stands; auto: chat where there is a template, else dialogue."""

USER_MARKER = "Human:"
ASSISTANT_MARKER = "Assistant:"
SEPARATOR = "\n\n"
NO_SYSTEM = "the model's chat template has no place for a system message: it opens the user's message"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from.

    `messages` is the conversation without the generator's own preamble (for the format text: one user message
    that holds the text); `markers` finish a text besides an end of sequence; `strip` says that white space
    around the answer is not part of it; `text` is what was encoded; `thinking` that the model may reason before it
    answers; `uncut` that every judge sees the answer to its last character. `warnings` are for whoever reads the
    answer.
    """

    format: Literal["chat", "dialogue", "text"]
    messages: tuple[Message, ...]
    text: str
    tokens: Tokens
    markers: tuple[str, ...]
    strip: bool
    thinking: bool = False
    uncut: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of user and assistant."""
        return tuple(message for message in self.messages if message.role != "system")


def build_prompt(
    prompt: str | Sequence[Message | Mapping[str, Any]] | Prompt,
    backend: Backend,
    *,
    prompt_format: PromptFormat = "auto",
    stop: str | Iterable[str] | None = (),
    next_turn_ends: bool = True,
    thinking: bool = False,
) -> Prompt:
    """Encode a text or a conversation that ends in a user message. A `Prompt` is taken as it is.

    Raises `InputError` for an empty prompt or broken messages, `ContextLengthError` for one that fills the
    context.
    """
    if isinstance(prompt, Prompt):
        return replace(prompt, markers=prompt.markers + stop_strings(stop))
    codec = backend.codec
    chosen = prompt_format
    if chosen == "auto":
        chosen = "chat" if codec.has_chat_template else "dialogue"
    turns = (USER_MARKER, ASSISTANT_MARKER) if chosen == "dialogue" else ()
    messages = tuple(
        Message(message.role, without_control_tokens(message.content, (*found, *turns)))
        for message in parse_messages(prompt)
        for found in [codec.control_texts_in([message.content])]
    )
    if chosen not in get_args(PromptFormat):
        raise InputError(
            f"unknown prompt format {chosen!r}", hint=f"use one of: {', '.join(get_args(PromptFormat))}"
        )
    turn_markers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    if chosen == "chat":
        text = codec.render_chat(messages, thinking=thinking)
        merged = system_into_user(messages)
        if merged and codec.render_chat(merged, thinking=thinking) == text:
            warnings = (NO_SYSTEM,)
        text = text if thinking else closed_thinking(text)
    elif chosen == "dialogue":
        text = dialogue(messages, backend.dialogue_header)
        turn_markers = (f"\n{USER_MARKER}",) if next_turn_ends else ()
    else:
        if len(messages) > 1:
            raise InputError(
                "the format 'text' continues one text, not a conversation",
                hint="use the format 'chat' or 'dialogue'",
            )
        text = messages[0].content
    tokens = codec.encode(text, start=chosen != "chat")
    room = backend.context_length - len(tokens)
    if room < 1:
        raise ContextLengthError(
            f"the prompt is {len(tokens)} tokens long, and {backend.name} has a context of "
            f"{backend.context_length}",
            hint="shorten the prompt or drop earlier turns",
        )
    return Prompt(
        chosen,
        messages,
        text,
        tokens,
        turn_markers + stop_strings(stop),
        strip=chosen != "text",
        thinking=thinking,
        warnings=warnings,
    )


def opens_thinking(text: str) -> bool:
    """Whether a rendered prompt ends where reasoning begins."""
    return text.rstrip().endswith(THINKING_START)


def closed_thinking(text: str) -> str:
    """A rendered prompt whose template opens reasoning gets it closed, so that the answer comes next."""
    return f"{text}\n{THINKING_END}\n\n" if opens_thinking(text) else text


def parse_messages(prompt: str | Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Check a prompt: a non-empty string, or messages with roles and texts that end in a user message."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InputError("the prompt is empty", hint="pass a question or a text to continue")
        return (Message("user", unicode_text(prompt, "the prompt")),)
    if not isinstance(prompt, Sequence) or not prompt:
        raise InputError(f"messages = {prompt!r}", hint="pass a string or a non-empty list of messages")
    messages = tuple(_parse_message(index, message) for index, message in enumerate(prompt))
    if messages[-1].role != "user":
        raise InputError(
            f"the last message comes from the {messages[-1].role}",
            hint="end with a message from the user",
        )
    return messages


def _parse_message(index: int, message: Any) -> Message:
    role: Any
    content: Any
    if isinstance(message, Mapping):
        role, content = message.get("role"), message.get("content")
    else:
        role, content = getattr(message, "role", None), getattr(message, "content", None)
    if role not in get_args(Role):
        raise InputError(
            f"messages[{index}].role = {role!r}", hint=f"use one of: {', '.join(get_args(Role))}"
        )
    if not isinstance(content, str) or (role != "assistant" and not content.strip()):
        raise InputError(f"messages[{index}].content = {content!r}", hint="use a non-empty string")
    return Message(role, unicode_text(content, f"messages[{index}].content"))


def unicode_text(text: str, name: str) -> str:
    """The text, unless it holds half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is not valid Unicode: {error}", hint="it contains an unpaired surrogate"
        ) from error
    return text


def stop_strings(stop: str | Iterable[str] | None) -> tuple[str, ...]:
    """What ends an answer, as callers name it: one string, several, or None. Empty strings end nothing.

    Raises `InputError` for anything else.
    """
    strings: list[Any] = [stop]
    if stop is None or isinstance(stop, str):
        strings = [stop or ""]
    elif isinstance(stop, Iterable):
        strings = list(stop)
    if not all(isinstance(text, str) for text in strings):
        raise InputError(f"stop = {stop!r}", hint="use a string or a list of strings")
    return tuple(dict.fromkeys(unicode_text(text, "stop") for text in strings if text))


def dialogue(messages: Sequence[Message], header: str) -> str:
    """Plain turns after a few-shot header (the generator's preamble, which the judge is not shown)."""
    markers = {"user": f"{USER_MARKER} ", "assistant": f"{ASSISTANT_MARKER} ", "system": ""}
    parts = [header.strip(), *(markers[message.role] + message.content.strip() for message in messages)]
    return SEPARATOR.join([part for part in parts if part] + [ASSISTANT_MARKER])
