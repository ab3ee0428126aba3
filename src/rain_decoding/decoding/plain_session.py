"""Plain decoding as a session."""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.decoding.session import Session, Steps
from rain_decoding.programs import ask
from rain_decoding.search.randomness import derive_seed
from rain_decoding.types import Decode, FinishReason, Stop, Tokens

PIECE = 4
"""Tokens decoded between two commits."""


@dataclass(eq=False)
class PlainSession(Session):
    """Greedy (`temperature` 0) or sampled decoding, committed every few tokens.

    The logits behind the prompt `against`, if there is one, count `contrast` times against it.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    against: Tokens = ()
    contrast: float = 0.0

    def steps(self) -> Steps[FinishReason]:
        stop = Stop(self.prompt.markers, len(self.prompt.tokens))
        while (left := self.limit - len(self.answer)) > 0:
            text = self.prompt.tokens + self.answer
            piece = Decode(
                text,
                min(PIECE, left),
                seed=derive_seed(self.options.seed, text, "plain") if self.temperature else None,
                temperature=self.temperature or 1.0,
                top_k=self.top_k,
                top_p=self.top_p,
                stop=stop,
                logit_bias=self.options.bias,
                horizon=left,
                against=self.against and self.against + self.answer,
                contrast=self.contrast,
            )
            decoded = yield from ask(piece)
            yield self.commit(decoded.tokens)
            if decoded.reason == "stop":
                return "stop"
        return "length"
