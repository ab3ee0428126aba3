"""Plain decoding as a session."""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.config import SearchConfig
from rain_decoding.decoding.fallback import judged_outcome
from rain_decoding.decoding.session import Session, Steps
from rain_decoding.programs import Program, ask
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.types import Completion, Decode, FinishReason, Stop, Tokens

PIECE = 4
"""Tokens decoded between two commits."""


@dataclass(eq=False)
class PlainSession(Session):
    """Greedy (`temperature` 0) or sampled decoding, committed every few tokens.

    The logits behind the prompt `against`, if there is one, count `contrast` times against it.
    With a `judge` the finished answer is judged, also where a budget ended it, and flagged as RAIN's would be by that
    judge's `config`: what it does not call good, and what it could not judge.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    against: Tokens = ()
    contrast: float = 0.0
    judge: ConversationEvaluator | None = None
    config: SearchConfig | None = None
    flagged: bool = False

    def steps(self) -> Steps[FinishReason]:
        reason: FinishReason
        try:
            reason = yield from self._decoded()
        except Interrupted as interrupted:
            reason = interrupted.reason
        self.complete = True
        if self.judge is not None and self.config is not None and reason != "cancelled":
            yield from self._settle(self.judge, self.config, reason)
        return reason

    def _settle(
        self, judge: ConversationEvaluator, config: SearchConfig, reason: FinishReason
    ) -> Program[None]:
        """Have the finished answer judged, if there is any."""
        judgement = None
        if self.answer:
            judgement = yield from self.judged(judge, self.prompt.tokens + self.answer)
        outcome = judged_outcome(self.answer, judgement, reason, config)
        self.score, self.parts, self.flagged = outcome.score, outcome.parts, outcome.flagged

    def completion(self, reason: FinishReason) -> Completion:
        completion = super().completion(reason)
        completion.flagged = self.flagged
        return completion

    def finish(self) -> None:
        super().finish()
        if self.judge is not None:
            self.judge.close()

    def _decoded(self) -> Steps[FinishReason]:
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
