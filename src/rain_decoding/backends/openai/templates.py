"""Chat templates that a server renders, asked for as rarely as may be: a judge prompt costs no request of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rain_decoding.backends.chat_template import render_or_merge, system_into_user
from rain_decoding.backends.openai.codec import Conversation
from rain_decoding.bounded import BoundedCache
from rain_decoding.types import Message

Shape = tuple[tuple[str, ...], bool]
"""Roles of the messages, and whether thinking is on."""
CACHE_BYTES = 2**20
"""Of skeletons."""


class Templates:
    """Renders conversations. `ask` has the server do it.

    The first conversation of a shape is rendered by the server twice: as it is, and with marks in the place of its
    texts. If the texts put in place of the marks give the same, further ones of that shape are rendered here. Shapes
    with a system message that the template has no place for are rendered with that text in the user's message.
    """

    def __init__(self, ask: Callable[[Conversation], str]):
        self.ask = ask
        self._skeletons: BoundedCache[Shape, Skeleton] = BoundedCache(
            CACHE_BYTES, lambda shape, kept: 2 * len(kept.text) + 64 * len(shape[0])
        )

    def render(self, conversation: Conversation) -> str:
        """The conversation's text up to the assistant's answer. Raises `InputError` for what the template refuses."""
        shape = _shape(conversation)
        merged = replace(conversation, messages=tuple(system_into_user(conversation.messages)))
        known = self._skeletons.get(shape)
        if known is not None and known.merges:
            return self.render(merged)

        last = conversation

        def written(messages: Sequence[Message]) -> str:
            nonlocal last
            last = replace(conversation, messages=tuple(messages))
            return self._written(last)

        text = render_or_merge(written, conversation.messages)
        if last == merged:
            self._skeletons.put(shape, Skeleton("", merges=True))
        return text

    def _written(self, conversation: Conversation) -> str:
        shape = _shape(conversation)
        known = self._skeletons.get(shape)
        plain = all(message.content == message.content.strip() for message in conversation.messages)
        if not plain or (known is not None and not known.fits):
            return self.ask(conversation)
        if known is not None:
            return _filled(known.text, conversation)
        rendered = self.ask(conversation)
        marked = tuple(
            Message(message.role, _mark(place)) for place, message in enumerate(conversation.messages)
        )
        skeleton = self.ask(Conversation(marked, conversation.thinking))
        holds = all(skeleton.count(message.content) == 1 for message in marked)
        fits = holds and _filled(skeleton, conversation) == rendered
        self._skeletons.put(shape, Skeleton(skeleton if fits else "", fits=fits))
        return rendered


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What a template writes around messages of one shape: `text` with marks, if that `fits`.

    It `merges` where it has no place for a system message.
    """

    text: str
    fits: bool = False
    merges: bool = False


def _shape(conversation: Conversation) -> Shape:
    return tuple(message.role for message in conversation.messages), conversation.thinking


def _mark(place: int) -> str:
    return f"message-{place}-of-rain"


def _filled(skeleton: str, conversation: Conversation) -> str:
    parts, rest = [], skeleton
    for place, message in enumerate(conversation.messages):
        before, _, rest = rest.partition(_mark(place))
        parts += [before, message.content]
    return "".join(parts) + rest
