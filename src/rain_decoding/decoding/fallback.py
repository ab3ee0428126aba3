"""The safety net: what is returned where the judge does not call the finished answer good."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.scheduler import Interrupted
from rain_decoding.types import (
    Await,
    Branch,
    Completion,
    Decode,
    FinishReason,
    Judgement,
    Launch,
    Stop,
    Tokens,
)

if TYPE_CHECKING:
    from rain_decoding.decoding.rain_session import RainSession

DEFAULT_REFUSAL = "Sorry, I have no good answer to this."

TRIES = 3
"""Alternatives that are completed and judged."""


class Alternative(NamedTuple):
    """A finished answer in place of another one."""

    answer: Tokens
    judgement: Judgement
    reason: FinishReason


@dataclass(eq=False)
class SafetyNet:
    """Holds an answer back until it is judged, if the configuration says so, and replaces it then.

    An answer is good if its score is above `SearchConfig.fallback_threshold`. One that could not be judged is good
    only where `on_unscored` says "release". What the caller cancels is returned without text if it was held.
    """

    session: RainSession
    settled: bool = False
    """What is returned stands."""
    flagged: bool = False
    fallback: Literal["", "alternative", "refusal"] = ""
    withheld: str = ""
    seen: dict[Tokens, float] = field(default_factory=dict)
    """Scores of the texts that the search had judged, prompt included."""

    @property
    def holds(self) -> bool:
        """Whether nothing may be released yet."""
        return self.session.config.fallback != "flag" and not self.settled

    def see(self, text: Tokens, judgement: Judgement) -> None:
        """Remember what may become an alternative."""
        if self.session.config.fallback == "alternative" and judgement.score is not None:
            self.seen[text] = judgement.score

    def settle(self, reason: FinishReason) -> Generator[Any, Any, FinishReason]:
        """Judge the finished answer and fall back where it is not good; why the answer ends."""
        session = self.session
        if session.answer and reason != "unjudged":
            final = yield from session.judged(session.judge, session.prompt.tokens + session.answer)
            session.score, session.parts = final.score, final.parts
        self.flagged = not self.is_good(session.score, reason)
        if self.flagged and self.holds:
            reason = yield from self._fall_back(reason)
        self.settled = reason != "cancelled"
        return reason

    def apply(self, completion: Completion, refusal: str) -> None:
        """Take what is withheld out of a completion."""
        completion.flagged, completion.fallback, completion.withheld = (
            self.flagged,
            self.fallback,
            self.withheld,
        )
        if self.holds or self.fallback == "refusal":
            completion.withheld = completion.text
            completion.text = "" if self.holds else refusal
            completion.tokens, completion.score, completion.parts = (), None, {}

    def is_good(self, score: float | None, reason: FinishReason) -> bool:
        """Whether an answer with this score, which ended so, may stand."""
        config = self.session.config
        if score is not None:
            return score > config.fallback_threshold
        if reason == "unjudged" or not self.session.answer:
            # That the model has nothing to say is no fault; that nothing good was found is one.
            return reason in ("stop", "length")
        return config.on_unscored == "release"

    def _fall_back(self, reason: FinishReason) -> Generator[Any, Any, FinishReason]:
        session = self.session
        answer, score = session.answer, session.score
        if session.config.fallback == "refusal":
            self.fallback, self.flagged = "refusal", False
        elif reason != "budget":
            reason = yield from self._look_for_better(reason)
        text = answer_text(session.backend.codec, session.prompt, answer)
        self.withheld = text if self.fallback else ""
        session.record({"event": "fallback", "to": self.fallback, "score": score, "withheld": self.withheld})
        return reason

    def _look_for_better(self, reason: FinishReason) -> Generator[Any, Any, FinishReason]:
        """Complete the best other texts that were judged, and take the best of them if it scores better."""
        session = self.session
        session.complete = False  # a budget may end this
        try:
            found = yield from self._alternatives()
        except Interrupted as interrupted:
            return "cancelled" if interrupted.reason == "cancelled" else reason
        finally:
            session.complete = True
        best = max(found, key=lambda one: _rank(one.judgement.score), default=None)
        if best is None or _rank(best.judgement.score) <= _rank(session.score):
            return reason
        self.fallback = "alternative"
        session.answer, session.score, session.parts = best.answer, best.judgement.score, best.judgement.parts
        self.flagged = not self.is_good(session.score, best.reason)
        return best.reason

    def _alternatives(self) -> Generator[Any, Any, list[Alternative]]:
        branches: list[Branch] = []
        for text in self._best_seen():
            branches.append((yield Launch(self._finish(text))))
        while running := [branch for branch in branches if not branch.done]:
            yield Await(running)
        return [branch.result for branch in branches]

    def _best_seen(self) -> list[Tokens]:
        """Texts that were judged better than the answer, do not lie on its path, and do not begin one another."""
        session = self.session
        answer = session.prompt.tokens + session.answer
        chosen: list[Tokens] = []
        for text in sorted(self.seen, key=lambda text: (-self.seen[text], -len(text))):
            paths = [answer, *chosen]
            better = self.seen[text] > _rank(session.score)
            if better and len(chosen) < TRIES and not any(path[: len(text)] == text for path in paths):
                chosen.append(text)
        return chosen

    def _finish(self, text: Tokens) -> Generator[Any, Any, Alternative]:
        """Go on greedily from a text to its end, and have the whole judged."""
        session = self.session
        prompt = session.prompt
        left = max(0, len(prompt.tokens) + session.limit - len(text))
        (decoded,) = yield [Decode(text, left, stop=Stop(prompt.markers, len(prompt.tokens)))]
        whole = text + decoded.tokens
        judgement = yield from session.judged(session.judge, whole)
        reason: FinishReason = "stop" if decoded.reason == "stop" else "length"
        return Alternative(whole[len(prompt.tokens) :], judgement, reason)


def _rank(score: float | None) -> float:
    """Scores in order; what could not be judged is below all."""
    return -2.0 if score is None else score
