"""`EndpointCodec`: pieces of text as token ids, for servers that are asked in text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rain_decoding.backends.chat_template import system_into_user, template_marks
from rain_decoding.bounded import ENTRY_BYTES, BoundedCache
from rain_decoding.control_text import candidates_in
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

IsControl = Callable[[Sequence[str]], Sequence[bool]]
"""Says of texts which of them are control tokens of the server's tokenizer."""

MOST_ASKED = 32
"""Texts that the server's tokenizer is asked about for one message at most; further ones count as control tokens."""
VERDICTS_BYTES = 2**20
"""Of what it said."""
PIECES_BYTES = 32 * 2**20
"""Of pieces and of conversations that are remembered, each."""


class Piece(int):
    """An id that holds its piece's text, and the conversation that this stands for, as long as anybody has the id."""

    text: str
    conversation: Conversation | None


class EndpointCodec:
    """Implements `backends.base.Codec`. An id is a hash of its piece's text, so it is the same in every run.

    `render` gives a conversation's text where the server renders it; without it a rendered chat is one piece that
    stands for the messages, without `system_role` with a system message in the user's. `special_texts` are the
    server's control tokens, as far as they are known; `is_control` asks it about others, where it lends its tokenizer.
    """

    eos = frozenset({END})

    def __init__(
        self,
        *,
        has_chat_template: bool = False,
        render: Render | None = None,
        system_role: bool = True,
        special_texts: Iterable[str] = (),
        is_control: IsControl | None = None,
    ):
        self.has_chat_template = has_chat_template
        self._render, self._system_role = render, system_role
        self._texts: dict[int, str] = {}
        self._ids: BoundedCache[str, Piece] = BoundedCache(
            PIECES_BYTES,
            lambda piece, _: ENTRY_BYTES + 2 * len(piece),
            lambda _, token: self._texts.pop(token, None),
        )
        self._conversations: BoundedCache[str, Conversation] = BoundedCache(
            PIECES_BYTES, lambda _, kept: sum(ENTRY_BYTES + 2 * len(m.content) for m in kept.messages)
        )
        self._is_control = is_control
        self._verdicts: BoundedCache[str, bool] = BoundedCache(VERDICTS_BYTES, lambda text, _: 2 * len(text))
        self.special_texts = (CHAT, *special_texts)
        if render is not None:
            marks = template_marks(partial(self.render_chat, thinking=False))
            self.special_texts = (*self.special_texts, *sorted(marks))

    def control_texts_in(self, texts: Iterable[str]) -> Sequence[str]:
        """The known ones, and those in the texts that the server's tokenizer says are some."""
        if self._is_control is None:
            return self.special_texts
        candidates = sorted(set().union(*map(candidates_in, texts)).difference(self.special_texts))
        new = [text for text in candidates if self._verdicts.get(text) is None]
        asked = new[:MOST_ASKED]
        for text, verdict in zip(asked, self._is_control(asked) if asked else (), strict=True):
            self._verdicts.put(text, verdict)
        found = [text for text in candidates if self._verdicts.get(text) is not False]
        return (*self.special_texts, *found) if found else self.special_texts

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        """Ids of the pieces of `text`; with `start` the server puts before it what begins a sequence."""
        return ((START,) if start else ()) + tuple(self.intern(piece) for piece in self._split(text))

    def _split(self, text: str) -> list[str]:
        pieces, position = [], 0
        for match in STAND_IN.finditer(text):
            if self._conversations.get(match[0]) is not None:
                pieces += [*PIECES.findall(text[position : match.start()]), match[0]]
                position = match.end()
        return pieces + PIECES.findall(text[position:])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, without the beginning and the end of a sequence."""
        return "".join(
            token.text if isinstance(token, Piece) else self._texts[token]
            for token in tokens
            if token >= RESERVED
        )

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The chat template's text up to the assistant's answer, or a stand-in for it.

        Raises `UnsupportedError` without a chat template, `InputError` for messages that it refuses.
        """
        if not self.has_chat_template:
            raise UnsupportedError("the server has no chat template", hint="use the prompt format 'dialogue'")
        if not self._system_role:
            messages = system_into_user(messages) or messages
        conversation = Conversation(tuple(messages), thinking)
        if self._render is not None:
            return self._render(conversation)
        stand_in = f"{CHAT} {hashlib.blake2b(repr(conversation).encode(), digest_size=16).hexdigest()}|>"
        self._conversations.put(stand_in, conversation)
        return stand_in

    def text(self, token: int) -> str:
        """The text of one piece, "" for the beginning and the end of a sequence."""
        return token.text if isinstance(token, Piece) else self._texts.get(token, "")

    def conversation(self, tokens: Tokens) -> Conversation | None:
        """What the first token stands for, if that is a conversation."""
        if not tokens:
            return None
        first = tokens[0]
        return first.conversation if isinstance(first, Piece) else self._conversations.get(self.text(first))

    def intern(self, piece: str) -> int:
        """The id of a piece of text, which may be any."""
        known = self._ids.get(piece)
        if known is None:
            digest = hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            number = RESERVED + int.from_bytes(digest, "little") % (2**ID_BITS - RESERVED)
            while self._texts.get(number, piece) != piece:  # two pieces with one hash
                number += 1
            known = Piece(number)
            known.text, known.conversation = piece, self._conversations.get(piece)
            self._texts[number] = piece
            self._ids.put(piece, known)
        return known
