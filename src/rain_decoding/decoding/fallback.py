"""What is returned of a finished answer, and what in its place where the judge does not call it good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from rain_decoding.config import SearchConfig
from rain_decoding.programs import Launch, Program, ask, gather
from rain_decoding.prompting import Prompt
from rain_decoding.scheduler import Interrupted
from rain_decoding.types import Decode, Fallback, FinishReason, Judgement, Stop, Tokens, rank

DEFAULT_REFUSAL = "Sorry, I have no good answer to this."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is returned: the tokens `answer` (none of a refusal), why they end, and their judgement.

    `score` in [-1, 1] and `parts` are as in `Completion`, and `flagged` says that the score is not good. What
    `fallback` put in place of an answer has that one's own outcome as `withheld`.
    """

    answer: Tokens
    reason: FinishReason
    score: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    flagged: bool = False
    fallback: Fallback = ""
    withheld: Outcome | None = None


def judged_outcome(
    answer: Tokens, judgement: Judgement | None, reason: FinishReason, config: SearchConfig
) -> Outcome:
    """The answer itself, with its judgement if it has one, flagged where it is not good."""
    score, parts = (judgement.score, judgement.parts) if judgement else (None, {})
    return Outcome(answer, reason, score, parts, flagged=not is_good(score, bool(answer), reason, config))


def is_good(score: float | None, answered: bool, reason: FinishReason, config: SearchConfig) -> bool:
    """Whether an answer with this score, which ended so, may stand: where the score is above `fallback_threshold`.

    One that could not be judged is good only where `on_unscored` says "release".
    """
    if score is not None:
        return score > config.fallback_threshold
    if reason == "unjudged" or not answered:
        # That the model has nothing to say is no fault; that nothing good was found is one.
        return reason in ("stop", "length")
    return config.on_unscored == "release"


def refused(outcome: Outcome) -> Outcome:
    """A refusal in place of an answer."""
    return Outcome((), outcome.reason, fallback="refusal", withheld=outcome)


@dataclass(frozen=True)
class FallbackSearch:
    """Looks for what to return in place of answers to one prompt, of at most `limit` >= 1 tokens."""

    config: SearchConfig
    prompt: Prompt
    limit: int
    judged: Callable[[Tokens], Program[Judgement]]
    """Has a text judged, prompt included."""
    interruptible: Callable[[], AbstractContextManager[None]]
    """Where a budget or the caller may interrupt the program."""

    def settle(self, answer: Tokens, reason: FinishReason, seen: Mapping[Tokens, float]) -> Program[Outcome]:
        """Judge the finished answer, and fall back as the configuration says where it is not good.

        `seen` are the scores of the texts that the search had judged, prompt included. Raises `Interrupted` if the
        caller cancels.
        """
        judgement = None
        if answer and reason != "unjudged":
            judgement = yield from self.judged(self.prompt.tokens + answer)
        outcome = judged_outcome(answer, judgement, reason, self.config)
        if not outcome.flagged or self.config.fallback == "flag":
            return outcome
        if self.config.fallback == "refusal":
            return refused(outcome)
        # What a budget ended is not searched on.
        return outcome if reason == "budget" else (yield from self._best(outcome, seen))

    def _best(self, outcome: Outcome, seen: Mapping[Tokens, float]) -> Program[Outcome]:
        """Complete the best other texts that were judged; the best of them, if it scores better, or the answer."""
        texts = self._worth_completing(outcome, seen)
        try:
            with self.interruptible():
                found = yield from gather(Launch(self._completed(text, outcome)) for text in texts)
        except Interrupted as interrupted:
            if interrupted.reason == "cancelled":
                raise
            return outcome
        return max((outcome, *found), key=lambda one: rank(one.score))

    def _worth_completing(self, outcome: Outcome, seen: Mapping[Tokens, float]) -> list[Tokens]:
        """Texts that were judged better than the answer, do not lie on its path, and do not begin one another."""
        paths = [self.prompt.tokens + outcome.answer]
        for text in sorted(seen, key=lambda text: (-seen[text], -len(text))):
            better = seen[text] > rank(outcome.score)
            if better and not any(path[: len(text)] == text for path in paths):
                paths.append(text)
        return paths[1:][: self.config.fallback_alternatives]

    def _completed(self, text: Tokens, instead_of: Outcome) -> Program[Outcome]:
        """Go on greedily from a text to its end, and have all of it judged."""
        before = len(self.prompt.tokens)
        left = max(0, before + self.limit - len(text))
        decoded = yield from ask(Decode(text, left, stop=Stop(self.prompt.markers, before)))
        text += decoded.tokens
        judgement = yield from self.judged(text)
        reason: FinishReason = "stop" if decoded.reason == "stop" else "length"
        found = judged_outcome(text[before:], judgement, reason, self.config)
        return replace(found, fallback="alternative", withheld=instead_of)
