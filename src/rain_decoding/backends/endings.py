"""Whether a text ends: a marker stands in it, or it ends in one of some characters.

Asked after every token, so what a single token says of itself is remembered, and the text is decoded only where
that does not settle it.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from rain_decoding.backends.base import Codec
from rain_decoding.bounded import BoundedCache
from rain_decoding.types import Decode, Stop, Tokens

INCOMPLETE = "\ufffd"
"""What decoders write for bytes that are no character yet."""

PIECES_BYTES = 16 * 2**20
"""Of the texts of single tokens that are remembered per model."""
_pieces: WeakKeyDictionary[Codec, BoundedCache[int, str]] = WeakKeyDictionary()


def why_ended(codec: Codec, request: Decode, text: Tokens, limit: int, new: int) -> str | None:
    """Why a `Decode` request has to end at `text`, its prefix and what followed; None: it goes on.

    `limit` is what its length is bounded by; of the last `new` tokens (0: of all) it is not known yet whether a marker
    ends in them.
    """
    decoded = text[len(request.prefix) :]
    generated = decoded if request.stop.start is None else text[request.stop.start :]
    if generated and generated[-1] in codec.eos:
        return "stop"
    if holds_marker(codec, text, request.stop, new=new or len(text)):
        return "stop"
    if len(decoded) >= request.min_tokens and ends_in(codec, text, request.endings):
        return "ending"
    return "length" if len(decoded) >= limit else None


def holds_marker(codec: Codec, tokens: Tokens, stop: Stop, new: int) -> bool:
    """Whether one of the last `new` tokens completed a marker in the text after the prompt."""
    if not stop.markers or stop.start is None:
        return False
    if not _may_complete(codec, tokens[len(tokens) - new :], stop.markers):
        return False
    # A token holds at least one byte of text, so no marker that ends in the new tokens begins before this window.
    window = new + 8 + max(len(marker.encode()) for marker in stop.markers)
    text = codec.decode(tokens[max(stop.start, len(tokens) - window) :])
    return any(marker in text for marker in stop.markers)


def ends_in(codec: Codec, tokens: Tokens, endings: str) -> bool:
    """Whether the text of the tokens ends in one of the characters `endings`."""
    if not endings or not tokens:
        return False
    piece = _piece(codec, tokens[-1])
    text = codec.decode(tokens[-8:]) if not piece or INCOMPLETE in piece else piece
    return text[-1:] in tuple(endings)


def _may_complete(codec: Codec, tokens: Tokens, markers: tuple[str, ...]) -> bool:
    """Whether a marker may end in one of the tokens: it holds a marker's last character, or part of a character."""
    last = {INCOMPLETE, *(marker[-1] for marker in markers)}
    return any(not last.isdisjoint(_piece(codec, token)) for token in tokens)


def _piece(codec: Codec, token: int) -> str:
    """The text of one token by itself."""
    if (known := _pieces.get(codec)) is None:
        known = _pieces[codec] = BoundedCache(PIECES_BYTES, lambda _, text: len(text))
    if (text := known.get(token)) is None:
        text = codec.decode((token,))
        known.put(token, text)
    return text
