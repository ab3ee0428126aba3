"""From messages or text to the tokens that generation starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from rain_decoding.backends.base import Backend
from rain_decoding.backends.chat_template import THINKING_END, THINKING_START
from rain_decoding.errors import ContextLengthError, InputError
from rain_decoding.types import Message, Role, Tokens

PromptFormat = Literal["auto", "chat", "dialogue", "text"]
"""chat: the model's chat template; dialogue: plain `Human:` / `Assistant:` turns; text: the prompt is
continued as it stands; auto: chat where there is a template, else dialogue."""

USER_MARKER = "Human:"
ASSISTANT_MARKER = "Assistant:"
SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from.

    `messages` is the conversation without the generator's own preamble (for the format text: one user message
    that holds the text); `markers` finish a text besides an end of sequence; `strip` says that white space
    around the answer is not part of it; `text` is what was encoded; `thinking` that the model may reason before it
    answers; `uncut` that every judge sees the answer to its last character.
    """

    format: Literal["chat", "dialogue", "text"]
    messages: tuple[Message, ...]
    text: str
    tokens: Tokens
    markers: tuple[str, ...]
    strip: bool
    thinking: bool = False
    uncut: bool = False

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
    messages = tuple(
        Message(message.role, without_control_tokens(message.content, codec.special_texts))
        for message in parse_messages(prompt)
    )
    chosen = prompt_format
    if chosen == "auto":
        chosen = "chat" if codec.has_chat_template else "dialogue"
    if chosen not in get_args(PromptFormat):
        raise InputError(
            f"unknown prompt format {chosen!r}", hint=f"use one of: {', '.join(get_args(PromptFormat))}"
        )
    turn_markers: tuple[str, ...] = ()
    if chosen == "chat":
        text = codec.render_chat(messages, thinking=thinking)
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
        return (Message("user", _unicode(prompt, "the prompt")),)
    if not isinstance(prompt, Sequence) or not prompt:
        raise InputError(f"messages = {prompt!r}", hint="pass a string or a non-empty list of messages")
    messages = tuple(_parse_message(index, message) for index, message in enumerate(prompt))
    if messages[-1].role != "user":
        raise InputError(
            f"the last message comes from the {messages[-1].role}",
            hint="end with a message from the user",
        )
    if any(message.role == "system" for message in messages[1:]):
        raise InputError("a system message follows another message", hint="put the system message first")
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
    return Message(role, _unicode(content, f"messages[{index}].content"))


def _unicode(text: str, name: str) -> str:
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
    return tuple(dict.fromkeys(_unicode(text, "stop") for text in strings if text))


def dialogue(messages: Sequence[Message], header: str) -> str:
    """Plain turns after a few-shot header (the generator's preamble, which the judge is not shown)."""
    markers = {"user": f"{USER_MARKER} ", "assistant": f"{ASSISTANT_MARKER} ", "system": ""}
    parts = [header.strip(), *(markers[message.role] + message.content.strip() for message in messages)]
    return SEPARATOR.join([part for part in parts if part] + [ASSISTANT_MARKER])


def without_control_tokens(text: str, special_texts: Iterable[str]) -> str:
    """The text with a space put into everything that the tokenizer would read as a control token."""
    pattern = _any_of(tuple(special_texts))

    def split(match: re.Match[str]) -> str:
        # One control token may stand inside another: "[[INST]]".
        return f"{without_control_tokens(match[0][:-1], special_texts)} {match[0][-1]}"

    return pattern.sub(split, text) if pattern else text


@lru_cache(maxsize=64)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str] | None:
    # A single character cannot be taken apart.
    longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None


GAP = r"[\s\u00ad\u200b-\u200f\u2060\ufeff]"
"""White space, and characters that nobody sees."""
FORMS = {":": "[:：]", "：": "[:：]", "(": "[(（]", "（": "[(（]", ")": "[)）]", "）": "[)）]"}
"""Punctuation marks that pass for each other."""


def neutralised(text: str, markers: Iterable[str]) -> str:
    """The text with every occurrence of a marker broken, so that it cannot pass for the real one.

    White space before a marker becomes one space (a forged turn needs its own line), and one space stands
    before the marker's last character. Case, spacing and full-width punctuation do not help to get round it.
    """
    for marker in markers:
        if pattern := _loosely(marker):
            text = pattern.sub(_broken, text)
    return text


@lru_cache(maxsize=1024)
def _loosely(marker: str) -> re.Pattern[str] | None:
    """Finds a marker however it is written, but none that begins inside a word ("a." in "Asia.")."""
    parts = re.findall(r"[A-Za-z0-9]+|\S", marker.strip().rstrip("(（"))
    if not parts:
        return None
    core = f"{GAP}*".join(FORMS.get(part, re.escape(part)) for part in parts)
    inside = "(?<![A-Za-z0-9])" if parts[0].isascii() and parts[0].isalnum() else ""
    return re.compile(f"(?<!{GAP})({GAP}*){inside}({core})", re.IGNORECASE)


def _broken(match: re.Match[str]) -> str:
    gap, marker = match.groups()
    head = re.sub(f"{GAP}+$", "", marker[:-1])
    return f"{' ' if gap and match.start() else ''}{head} {marker[-1]}"
