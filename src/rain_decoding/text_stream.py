"""From token ids to text that may be shown: never half a character, never part of a marker."""

from __future__ import annotations

from rain_decoding.backends.base import Codec
from rain_decoding.prompting import Prompt
from rain_decoding.types import Tokens

REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no character yet."""


class TextStream:
    """Gives the new text after each growth of an answer."""

    def __init__(self, codec: Codec, prompt: Prompt):
        self.codec, self.prompt = codec, prompt
        self.shown = ""

    def push(self, answer: Tokens, *, final: bool = False) -> str:
        """The piece that may be shown now that the answer's tokens are `answer`; with `final`, all that is left."""
        text = answer_text(self.codec, self.prompt, answer)
        if not final:
            text = self._settled(text)
        piece = text[len(self.shown) :]
        self.shown += piece
        return piece

    def _settled(self, text: str) -> str:
        """Without what later tokens may still change: an incomplete character, a marker's beginning, white space."""
        text = text.rstrip(REPLACEMENT)
        held = max(
            (
                length
                for marker in self.prompt.markers
                for length in range(1, min(len(marker), len(text) + 1))
                if text.endswith(marker[:length])
            ),
            default=0,
        )
        text = text[: len(text) - held]
        return text.rstrip() if self.prompt.strip else text


def answer_text(codec: Codec, prompt: Prompt, answer: Tokens) -> str:
    """The text of an answer: cut at the first marker, white space around it left out where the prompt says so."""
    text = codec.decode(answer)
    ends = [position for marker in prompt.markers if (position := text.find(marker)) >= 0]
    text = text[: min(ends)] if ends else text
    return text.strip() if prompt.strip else text
