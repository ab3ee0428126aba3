"""From prompt token ids back to the conversation, for the judge is to see turns and not control tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from rain_decoding.backends.base import Codec
from rain_decoding.backends.chat_template import THINKING_END, thinking_tags
from rain_decoding.backends.dialogue import default_dialogue_header
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.errors import InputError
from rain_decoding.prompting import (
    ASSISTANT_MARKER,
    SEPARATOR,
    USER_MARKER,
    Prompt,
    dialogue,
    opens_thinking,
    parse_messages,
)
from rain_decoding.types import Message, Tokens

SYSTEM, USER, ASSISTANT, AGAIN = "Sy5tem", "Us3r", "Ass1stant", "Aga1n"
"""Messages that show how a template writes messages."""


def read_prompt(tokens: Tokens, backend: LocalBackend) -> Prompt:
    """The prompt with the turns that its token ids tell of.

    That is a conversation that the chat template writes with just these ids, or else plain `Human:` and
    `Assistant:` turns, or else one text. Raises `InputError` for control tokens that the template does not explain.
    """
    codec = backend.codec
    assert isinstance(codec, HFCodec)
    if codec.has_chat_template:
        for messages, text in _readings(tokens, codec):
            return Prompt("chat", messages, text, tokens, (), strip=True)
        if _holds_control_tokens(tokens, codec):
            raise InputError(
                "the chat template does not explain the control tokens of the prompt",
                hint="pass the conversation as rain_messages=[[{'role': 'user', 'content': ...}], ...]",
            )
    text = codec.decode(tokens)
    if messages := read_dialogue(text):
        return Prompt("dialogue", messages, text, tokens, (), strip=True)
    return Prompt("text", (Message("user", text),), text, tokens, (), strip=False)


def given_prompt(messages: Any, tokens: Tokens, codec: Codec) -> Prompt:
    """The prompt with the turns that the caller names. Raises `InputError` for broken messages."""
    parsed = parse_messages(messages)
    kind: Literal["chat", "dialogue"] = "chat" if codec.has_chat_template else "dialogue"
    return Prompt(kind, parsed, codec.decode(tokens), tokens, (), strip=True)


def ready(prompt: Prompt, backend: LocalBackend, stop: tuple[str, ...], thinking: bool | None) -> Prompt:
    """The prompt with what ends its answer, and with whether the model may reason first (None: see for oneself).

    Raises `InputError` for a prompt that opens reasoning where there is to be none.
    """
    opened = opens_thinking(prompt.text)
    if opened and thinking is False:
        raise InputError("the prompt already opens the model's reasoning", hint="omit rain_thinking=False")
    if thinking is None:
        closed = prompt.text.rstrip().endswith(THINKING_END)
        thinking = prompt.format == "chat" and not closed and _knows_thinking(backend.codec)
    turn = (f"\n{USER_MARKER}",) if prompt.format == "dialogue" else ()
    return replace(prompt, markers=turn + stop, thinking=opened or thinking)


def _knows_thinking(codec: Codec) -> bool:
    assert isinstance(codec, HFCodec)
    return bool(thinking_tags(str(codec.tokenizer.chat_template)))


def read_dialogue(text: str) -> tuple[Message, ...]:
    """The turns of a plain dialogue that waits for the assistant's answer; none if it is no such text."""
    body = text.strip().removeprefix(default_dialogue_header().strip()).lstrip()
    parts = re.split(rf"(?:\A|{SEPARATOR})({USER_MARKER}|{ASSISTANT_MARKER})", body)
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    roles = {USER_MARKER: "user", ASSISTANT_MARKER: "assistant"}
    messages = [Message(roles[marker], content.strip()) for marker, content in turns]  # type: ignore[arg-type]
    if not messages or messages.pop() != Message("assistant", ""):
        return ()
    if parts[0]:
        messages.insert(0, Message("system", parts[0]))
    is_whole = dialogue(messages, "") == body and messages[-1:] and messages[-1].role == "user"
    return tuple(messages) if is_whole else ()


def _readings(tokens: Tokens, codec: HFCodec) -> Iterator[tuple[tuple[Message, ...], str]]:
    """The conversations that the template writes as these tokens, with their text: one or none."""
    raw = codec.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for thinking in (False, True):
        for opening in ([Message("system", SYSTEM)], []):
            messages = _unwritten(raw, opening, codec, thinking)
            text = _written(messages, codec, thinking)
            if text and codec.encode(text, start=False) == tokens:
                yield tuple(messages), text
                return


def _unwritten(raw: str, opening: list[Message], codec: HFCodec, thinking: bool) -> list[Message]:
    """The messages between what the template writes around them; none where that is not there."""
    one = _written([*opening, Message("user", USER)], codec, thinking)
    more = [Message("user", USER), Message("assistant", ASSISTANT), Message("user", AGAIN)]
    several = _written([*opening, *more], codec, thinking)
    before, _, end = one.partition(USER)
    answered, _, following = several.partition(USER)[2].partition(ASSISTANT)
    asked = following.partition(AGAIN)[0]
    head, found, into_user = before.partition(SYSTEM)
    if not end or not raw.startswith(head) or not raw.endswith(end) or bool(found) != bool(opening):
        return []
    body = raw[len(head) : len(raw) - len(end)]
    messages: list[Message] = []
    if opening:
        if not into_user.strip():
            return []  # the template takes no system message
        system, _, body = body.partition(into_user)
        messages.append(Message("system", system))
    while answered and asked and answered in body:
        user, _, body = body.partition(answered)
        assistant, _, body = body.partition(asked)
        messages += [Message("user", user), Message("assistant", assistant)]
    return [*messages, Message("user", body)]


def _written(messages: Sequence[Message], codec: HFCodec, thinking: bool) -> str:
    """The messages as the template writes them; nothing if it refuses them."""
    if not messages:
        return ""
    try:
        return codec.render_chat(messages, thinking=thinking)
    except InputError:
        return ""


def _holds_control_tokens(tokens: Tokens, codec: HFCodec) -> bool:
    special = set(codec.tokenizer.all_special_ids)
    return any(token in special for token in tokens[1:])
