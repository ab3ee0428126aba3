"""Chat templates that a server renders, asked for as rarely as may be: a judge prompt costs no request of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rain_decoding.backends.openai.codec import Conversation
from rain_decoding.types import Message

Shape = tuple[tuple[str, ...], bool]
"""Roles of the messages, and whether thinking is on."""


@dataclass
class Templates:
    """Renders conversations. `ask` has the server do it.

    The first conversation of a shape is rendered by the server twice: as it is, and with marks in the place of its
    texts. If the texts put in place of the marks give the same, further ones of that shape are rendered here.
    """

    ask: Callable[[Conversation], str]
    _skeletons: dict[Shape, str | None] = field(default_factory=dict)

    def render(self, conversation: Conversation) -> str:
        """The conversation's text up to the assistant's answer."""
        shape = tuple(message.role for message in conversation.messages), conversation.thinking
        plain = all(message.content == message.content.strip() for message in conversation.messages)
        if not plain or self._skeletons.get(shape, "") is None:
            return self.ask(conversation)
        if shape in self._skeletons:
            return _filled(self._skeletons[shape] or "", conversation)
        rendered = self.ask(conversation)
        marked = tuple(
            Message(message.role, _mark(place)) for place, message in enumerate(conversation.messages)
        )
        skeleton = self.ask(Conversation(marked, conversation.thinking))
        holds = all(skeleton.count(message.content) == 1 for message in marked)
        fits = holds and _filled(skeleton, conversation) == rendered
        self._skeletons[shape] = skeleton if fits else None
        return rendered


def _mark(place: int) -> str:
    return f"message-{place}-of-rain"


def _filled(skeleton: str, conversation: Conversation) -> str:
    parts, rest = [], skeleton
    for place, message in enumerate(conversation.messages):
        before, _, rest = rest.partition(_mark(place))
        parts += [before, message.content]
    return "".join(parts) + rest
