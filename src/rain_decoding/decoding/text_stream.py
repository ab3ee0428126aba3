"""From token ids to text that may be shown: never half a character, never part of a marker."""

from __future__ import annotations

from rain_decoding.backends.base import Codec
from rain_decoding.backends.endings import INCOMPLETE
from rain_decoding.prompting import Prompt
from rain_decoding.types import Tokens


class TextStream:
    """Gives the new text after each growth of an answer."""

    def __init__(self, codec: Codec, prompt: Prompt):
        self.codec, self.prompt = codec, prompt
        self.shown = ""

    def push(self, answer: Tokens, *, final: bool = False) -> str:
        """The piece that may be shown now that the answer is `answer`; with `final`, all that is left."""
        text = _before_markers(self.codec, self.prompt, answer)
        if not final:
            text = text[: len(text) - self._held(text)]
        piece = _stripped(self.prompt, text)[len(self.shown) :]
        self.shown += piece
        return piece

    def _held(self, text: str) -> int:
        """How many characters at the end of the text may be the beginning of a marker."""
        lengths = (
            length
            for marker in self.prompt.markers
            for length in range(1, min(len(marker), len(text) + 1))
            if text.endswith(marker[:length])
        )
        return max(lengths, default=0)


def answer_text(codec: Codec, prompt: Prompt, answer: Tokens) -> str:
    """An answer's text: cut at the first marker, and without a character that its end leaves incomplete.

    White space around it is left out where the prompt says so.
    """
    return _stripped(prompt, _before_markers(codec, prompt, answer))


def ending_marker(codec: Codec, prompt: Prompt, answer: Tokens) -> str | None:
    """The marker before which an answer's text was cut; None where none stands in it."""
    text = _whole_characters(codec, answer)
    found = [marker for marker in prompt.markers if marker in text]
    return min(found, key=text.find, default=None)


def _before_markers(codec: Codec, prompt: Prompt, answer: Tokens) -> str:
    text = _whole_characters(codec, answer)
    ends = (text.find(marker) for marker in prompt.markers)
    return text[: min((end for end in ends if end >= 0), default=None)]


def _whole_characters(codec: Codec, tokens: Tokens) -> str:
    """The text without an incomplete character at its end.

    Tokenizers with tokens for single bytes give no character of a run of bytes until all of them are complete,
    so up to three tokens are left out in search of the longest text.
    """
    text = codec.decode(tokens)
    if not text.endswith(INCOMPLETE):
        return text
    shorter = (tokens[: len(tokens) - missing] for missing in range(min(4, len(tokens))))
    return max((codec.decode(part).rstrip(INCOMPLETE) for part in shorter), key=len)


def _stripped(prompt: Prompt, text: str) -> str:
    return text.strip() if prompt.strip else text
