"""Decoders that RAIN is compared with: whole answers are decoded and judged, and the best judged one is returned.

They judge as RAIN does, and share computation as it does: the answers to a prompt are branches of one trie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.session import Options, Session, Steps, token_limit
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.errors import InputError, UnsupportedError
from rain_decoding.programs import Launch, Program, ask, gather
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, SelfEvaluator, Votes
from rain_decoding.self_evaluation.loading import load_evaluator
from rain_decoding.types import Decode, Decoded, FinishReason, Message, Stop

CRITIQUE = (
    'Look at your last answer again. It should be such that this is true: "{}" It should not be such that this is '
    'true: "{}" What is wrong with it, in one or two sentences?'
)
REWRITE = "Now answer the request again, without these faults. Write the new answer only."

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
    """Decodes whole answers, has them judged, and commits the best one. Subclasses give `attempts`."""

    judge: ConversationEvaluator
    scored: list[Judged] = field(default_factory=list)
    """Without those that could not be judged."""

    def finish(self) -> None:
        super().finish()
        self.judge.close()

    def steps(self) -> Steps[FinishReason]:
        reason: FinishReason | None = None
        try:
            yield from self.attempts()
        except Interrupted as interrupted:
            reason = interrupted.reason
        if not self.scored or reason == "cancelled":
            return reason or "unjudged"
        best = max(self.scored)
        self.score = best.score
        yield self.commit(best.decoded.tokens, value=best.score)
        return reason or ("stop" if best.decoded.reason == "stop" else "length")

    def attempts(self) -> Program[None]:
        """A program that decodes answers and puts them through `consider`."""
        raise NotImplementedError

    def consider(self, decoded: Decoded, order: int, logprob: float) -> Program[None]:
        """Have an answer judged."""
        judgement = yield from self.judged(self.judge, self.prompt.tokens + decoded.tokens)
        if judgement.score is not None:
            self.scored.append(Judged(judgement.score, logprob, order, decoded))


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
        prompt = self.prompt.tokens
        seed = None if number is GREEDY else derive_seed(self.options.seed, prompt, "answer", number)
        stop = Stop(self.prompt.markers, len(prompt))
        request = Decode(prompt, self.limit, seed=seed, stop=stop, logit_bias=self.options.bias)
        decoded = yield from ask(request)
        yield from self.consider(decoded, order, decoded.logprob)


@dataclass(eq=False, kw_only=True)
class RefiningSession(JudgedSession):
    """Answers greedily, lets the model say what is wrong with the answer, and answers again.

    `statements` are the criterion's, the positive and the negative one first.
    """

    statements: tuple[str, ...]

    def attempts(self) -> Program[None]:
        talk, prompt = list(self.prompt.messages), self.prompt
        answer = yield from self._reply(prompt)
        # Probabilities after different prompts cannot be compared: of like scores the first answer counts.
        yield from self.consider(answer, 0, 0.0)
        for asked in (CRITIQUE.format(*self.statements), REWRITE):
            said = answer_text(self.backend.codec, prompt, answer.tokens)
            talk += [Message("assistant", said), Message("user", asked)]
            prompt = build_prompt(
                talk, self.backend, prompt_format=self.prompt.format, stop=self.options.stop
            )
            answer = yield from self._reply(prompt)
        yield from self.consider(answer, -1, 0.0)

    def _reply(self, prompt: Prompt) -> Program[Decoded]:
        """What the model says next, as long as the context lets it."""
        room = self.backend.context_length - len(prompt.tokens)
        stop = Stop(prompt.markers, len(prompt.tokens))
        request = Decode(prompt.tokens, min(self.limit, room), stop=stop, logit_bias=self.options.bias)
        return (yield from ask(request))


class JudgedDecoder(Decoder, ABC):
    """Decodes whole answers and returns the best judged one, in one commit.

    Of equally judged answers the most probable is the best, then the earliest. Only judged text is released: when a
    budget ends, the best answer judged until then; `finish_reason` is "unjudged" where none could be judged.

    Args:
        backend: The model.
        criterion: As for `RainDecoder`.
        votes: How label probabilities become a score, see `SearchConfig.votes`; an `Evaluator` votes as it does.
        min_label_mass: In [0, 1]; a judgement whose labels have less probability together is unscored.
        prompt_format: How prompts are encoded, see `PromptFormat`.

    Raises:
        CriterionError: The criterion is unknown or broken.
    """

    def __init__(
        self,
        backend: Backend,
        criterion: str | Criterion | Evaluator,
        *,
        votes: Votes = "hard",
        min_label_mass: float = 0.0,
        prompt_format: PromptFormat = "auto",
    ):
        self.backend, self.prompt_format = backend, prompt_format
        self.evaluator = load_evaluator(backend, criterion, votes=votes, min_label_mass=min_label_mass)

    @abstractmethod
    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        """What decodes and judges the answers to one prompt."""

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        options.refuse_sampling("the baselines decode")
        options.refuse_criterion(f"{type(self).__name__} judges by the criterion it was made with")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        return self.session(built, options, token_limit(built, self.backend, options.max_tokens, overrun=0))


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


class SelfRefineDecoder(JudgedDecoder):
    """Self-refinement (Madaan et al. 2023, arXiv 2303.17651), one round, judged: the greedy answer, the model's own
    criticism of it by the criterion's statements, and the greedy answer after that; the better judged one counts,
    the first where both are judged alike.

    Args:
        backend: The model.
        criterion: As for `RainDecoder`, but with statements.
        options: Other arguments of `JudgedDecoder`.

    Raises:
        UnsupportedError: The judge has no statements; or, for a prompt, it is a text that is continued: there is no
            conversation to criticise in.
        CriterionError: The criterion is unknown or broken.
    """

    def __init__(self, backend: Backend, criterion: str | Criterion | Evaluator, **options: Any):
        super().__init__(backend, criterion, **options)
        if not isinstance(self.evaluator, SelfEvaluator):
            raise UnsupportedError(
                f"the judge {self.evaluator.name} has no statements to refine an answer by",
                hint="use a criterion with statements",
            )
        self.statements = self.evaluator.criterion.statements

    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        if prompt.format == "text":
            raise UnsupportedError(
                "self-refinement needs a conversation, not a text to continue", hint="leave this decoder out"
            )
        return RefiningSession(
            self.backend,
            prompt,
            options,
            limit,
            self.backend.new_owner(),
            judge=self.evaluator.conversation(prompt),
            statements=self.statements,
        )
