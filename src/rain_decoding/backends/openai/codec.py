"""`EndpointCodec`: pieces of text as token ids, for servers that are asked in text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rain_decoding.errors import UnsupportedError
from rain_decoding.types import Message, Tokens

START, END = 0, 1
"""Ids of the beginning and the end of a sequence; both decode to nothing."""
RESERVED = 2
"""Ids below this stand for no text."""
ID_BITS = 48
"""So that ids are exact in JSON, too."""

PIECES = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)|\s+(?!\S)|\s")
"""Words, numbers and marks, each with the space before it; white space besides."""
CHAT = "<|rain chat"
"""Begins the stand-in for a conversation that the server renders. Prompts that hold it get a space put into it."""
STAND_IN = re.compile(re.escape(CHAT) + r" [0-9a-f]{32}\|>")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages whose template the server applies itself; `thinking` lets a reasoning model reason."""

    messages: tuple[Message, ...]
    thinking: bool


Render = Callable[[Conversation], str]


class EndpointCodec:
    """Implements `backends.base.Codec`. An id is a hash of its piece's text, so it is the same in every run.

    `render` gives a conversation's text where the server renders it; without it a rendered chat is one piece that
    stands for the messages. `special_texts` are the server's control tokens, as far as they are known.
    """

    eos = frozenset({END})

    def __init__(
        self,
        *,
        has_chat_template: bool = False,
        render: Render | None = None,
        special_texts: Iterable[str] = (),
    ):
        self.has_chat_template = has_chat_template
        self.special_texts = (CHAT, *special_texts)
        self._render = render
        self._texts: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._conversations: dict[str, Conversation] = {}

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        """Ids of the pieces of `text`; with `start` the server puts before it what begins a sequence."""
        return ((START,) if start else ()) + tuple(self.intern(piece) for piece in self._split(text))

    def _split(self, text: str) -> list[str]:
        pieces, position = [], 0
        for match in STAND_IN.finditer(text):
            if match[0] in self._conversations:
                pieces += [*PIECES.findall(text[position : match.start()]), match[0]]
                position = match.end()
        return pieces + PIECES.findall(text[position:])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, without the beginning and the end of a sequence."""
        return "".join(self._texts[token] for token in tokens if token >= RESERVED)

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The chat template's text up to the assistant's answer, or a stand-in for it.

        Raises `UnsupportedError` without a chat template.
        """
        if not self.has_chat_template:
            raise UnsupportedError("the server has no chat template", hint="use the prompt format 'dialogue'")
        conversation = Conversation(tuple(messages), thinking)
        if self._render is not None:
            return self._render(conversation)
        stand_in = f"{CHAT} {hashlib.blake2b(repr(conversation).encode(), digest_size=16).hexdigest()}|>"
        self._conversations[stand_in] = conversation
        return stand_in

    def text(self, token: int) -> str:
        """The text of one piece, "" for the beginning and the end of a sequence."""
        return self._texts.get(token, "")

    def conversation(self, tokens: Tokens) -> Conversation | None:
        """What the first token stands for, if that is a conversation."""
        return self._conversations.get(self._texts.get(tokens[0], "")) if tokens else None

    def intern(self, piece: str) -> int:
        """The id of a piece of text, which may be any."""
        known = self._ids.get(piece)
        if known is None:
            digest = hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            known = RESERVED + int.from_bytes(digest, "little") % (2**ID_BITS - RESERVED)
            while self._texts.get(known, piece) != piece:  # two pieces with one hash
                known += 1
            self._ids[piece], self._texts[known] = known, piece
        return known
