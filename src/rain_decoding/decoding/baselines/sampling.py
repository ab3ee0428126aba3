"""Best of k, rejection, and verify, then regenerate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.baselines.judged import JudgedDecoder, JudgedSession
from rain_decoding.decoding.session import Options
from rain_decoding.errors import InputError
from rain_decoding.programs import Launch, Program, gather
from rain_decoding.prompting import Prompt
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator

GREEDY = None
"""In place of a sample's number: the greedy answer."""

Round = Sequence[int | None]
"""Answers decoded side by side: numbers of samples, or `GREEDY`."""


@dataclass(eq=False, kw_only=True)
class SamplingSession(JudgedSession):
    """Decodes answers round by round until one is judged good (score > 0)."""

    rounds: Sequence[Round]

    def attempts(self) -> Program[None]:
        order = 0
        for numbers in self.rounds:
            attempts = [self._attempt(number, order - place) for place, number in enumerate(numbers)]
            yield from gather(map(Launch, attempts))
            order -= len(numbers)
            if any(answer.score > 0 for answer in self.scored):
                return

    def _attempt(self, number: int | None, order: int) -> Program[None]:
        """Decode one answer and judge it."""
        tokens = self.prompt.tokens
        seed = None if number is GREEDY else derive_seed(self.options.seed, tokens, "answer", number)
        decoded = yield from self.decode(self.prompt, seed=seed)
        yield from self.consider(decoded, order, decoded.logprob)


class SamplingDecoder(JudgedDecoder):
    """Decodes up to `k` answers. Samples are drawn at temperature 1; sample i of a request is the same for every
    decoder here and every `k`.

    Args:
        backend: The model.
        criterion: As for `RainDecoder`.
        k: Answers at most, >= 1.
        options: Other arguments of `JudgedDecoder`.

    Raises:
        InputError: `k` is out of range.
        CriterionError: The criterion is unknown or broken.
    """

    def __init__(self, backend: Backend, criterion: str | Criterion | Evaluator, k: int, **options: Any):
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k = {k!r}", hint="use a whole number >= 1")
        super().__init__(backend, criterion, **options)
        self.k = k

    @abstractmethod
    def rounds(self) -> Sequence[Round]:
        """What is decoded, as long as nothing is judged good."""

    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        judge = self.evaluator.conversation(prompt)
        owner = self.backend.new_owner()
        return SamplingSession(self.backend, prompt, options, limit, owner, judge=judge, rounds=self.rounds())


class BestOfDecoder(SamplingDecoder):
    """Best of k: samples `k` answers at once and judges all of them."""

    def rounds(self) -> Sequence[Round]:
        return [range(self.k)]


class RejectionDecoder(SamplingDecoder):
    """Rejection sampling: one sample after the other, at most `k`, until one is judged good."""

    def rounds(self) -> Sequence[Round]:
        return [[number] for number in range(self.k)]


class RegenerateDecoder(SamplingDecoder):
    """Verify, then regenerate: the greedy answer; if it is judged bad, up to `k` - 1 samples until one is good."""

    def rounds(self) -> Sequence[Round]:
        return [[GREEDY], *([number] for number in range(self.k - 1))]
