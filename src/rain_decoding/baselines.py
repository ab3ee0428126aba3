"""Decoders that RAIN is compared with: whole answers are decoded and judged, and the best judged one is returned.

They judge as RAIN does, and share computation as it does: the answers to a prompt are branches of one trie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rain_decoding.backends.base import Backend
from rain_decoding.decoder import Decoder, PromptLike
from rain_decoding.errors import InputError
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.randomness import derive_seed
from rain_decoding.scheduler import Interrupted
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Votes, load_evaluator
from rain_decoding.session import Options, Session, token_limit
from rain_decoding.types import Await, Branch, Decode, Decoded, FinishReason, Launch, Stop

GREEDY = None
"""In place of a sample's number: the greedy answer."""

Round = Sequence[int | None]
"""Answers decoded side by side: numbers of samples, or `GREEDY`."""


class Judged(NamedTuple):
    """A decoded answer with its score in [-1, 1]. Ordered: a better score first counts, then the probability."""

    score: float
    logprob: float
    order: int
    """0 for the first answer of a request, -1 for the second, ..."""
    decoded: Decoded


@dataclass(eq=False, kw_only=True)
class JudgedSession(Session):
    """Decodes answers round by round until one is judged good (score > 0), then commits the best one."""

    judge: ConversationEvaluator
    rounds: Sequence[Round]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.scored: list[Judged] = []
        """Without those that could not be judged."""

    def steps(self) -> Generator[Any, Any, FinishReason]:
        reason: FinishReason | None = None
        try:
            yield from self._decode_rounds()
        except Interrupted as interrupted:
            reason = interrupted.reason
        if not self.scored or reason == "cancelled":
            return reason or "unjudged"
        best = max(self.scored)
        self.score = best.score
        yield self.commit(best.decoded.tokens, value=best.score)
        return reason or ("stop" if best.decoded.reason == "stop" else "length")

    def _decode_rounds(self) -> Generator[Any, Any, None]:
        order = 0
        for numbers in self.rounds:
            branches: list[Branch] = []
            for number in numbers:
                branches.append((yield Launch(self._attempt(number, order))))
                order -= 1
            while running := [branch for branch in branches if not branch.done]:
                yield Await(running)
            if any(answer.score > 0 for answer in self.scored):
                return

    def _attempt(self, number: int | None, order: int) -> Generator[Any, Any, None]:
        """Decode one answer and judge it."""
        prompt = self.prompt.tokens
        seed = None if number is GREEDY else derive_seed(self.options.seed, prompt, "answer", number)
        stop = Stop(self.prompt.markers, len(prompt))
        decoded: Decoded
        request = Decode(prompt, self.limit, seed=seed, stop=stop, logit_bias=self.options.bias)
        (decoded,) = yield [request]
        judgement = yield from self.judged(self.judge, prompt + decoded.tokens)
        if judgement.score is not None:
            self.scored.append(Judged(judgement.score, decoded.logprob, order, decoded))


class JudgedDecoder(Decoder, ABC):
    """Decodes up to `k` >= 1 whole answers and returns the best judged one, in one commit.

    Of equally judged answers the most probable is the best, then the earliest. Samples are drawn at temperature 1;
    sample i of a request is the same for every decoder here and every `k`. `criterion` and `votes` are those of
    `RainDecoder` and `SearchConfig`; an `Evaluator` in place of a criterion votes as it does. Only judged text is
    released: when a budget ends, the best answer judged until then; `finish_reason` is "unjudged" where none
    could be judged.
    """

    def __init__(
        self,
        backend: Backend,
        criterion: str | Criterion | Evaluator,
        k: int,
        *,
        votes: Votes = "hard",
        min_label_mass: float = 0.0,
        prompt_format: PromptFormat = "auto",
    ):
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k = {k!r}", hint="a whole number >= 1")
        self.backend, self.k, self.prompt_format = backend, k, prompt_format
        self.evaluator = load_evaluator(backend, criterion, votes=votes, min_label_mass=min_label_mass)

    @abstractmethod
    def rounds(self) -> Sequence[Round]:
        """What is decoded, as long as nothing is judged good."""

    def _open(self, prompt: PromptLike, options: Options) -> Session:
        options.refuse_sampling("the baselines draw")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        limit = token_limit(built, self.backend, options.max_tokens, overrun=0)
        judge = self.evaluator.conversation(built)
        return JudgedSession(self.backend, built, options, limit, judge=judge, rounds=self.rounds())


class BestOfDecoder(JudgedDecoder):
    """Best of k: samples `k` answers at once and judges all of them."""

    def rounds(self) -> Sequence[Round]:
        return [range(self.k)]


class RejectionDecoder(JudgedDecoder):
    """Rejection sampling: one sample after the other, at most `k`, until one is judged good."""

    def rounds(self) -> Sequence[Round]:
        return [[number] for number in range(self.k)]


class RegenerateDecoder(JudgedDecoder):
    """Verify, then regenerate: the greedy answer; if it is judged bad, up to `k` - 1 samples until one is good."""

    def rounds(self) -> Sequence[Round]:
        return [[GREEDY], *([number] for number in range(self.k - 1))]
