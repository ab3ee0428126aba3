"""Whole answers that are decoded and judged, of which the best judged one is returned.

They judge as RAIN does, and share computation as it does: the answers to a prompt are branches of one trie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.session import Options, Session, Steps, token_limit
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import Interrupted
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Votes
from rain_decoding.self_evaluation.loading import load_evaluator
from rain_decoding.types import Decode, Decoded, FinishReason, Judgement, Stop, Tokens


class Scored(NamedTuple):
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
    scored: list[Scored] = field(default_factory=list)
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
        judgement = yield from self.verdict(decoded.tokens)
        if judgement.score is not None:
            self.scored.append(Scored(judgement.score, logprob, order, decoded))

    def verdict(self, answer: Tokens) -> Program[Judgement]:
        """What the judge says of an answer to the user's prompt, wherever it was decoded."""
        return (yield from self.judged(self.judge, self.prompt.tokens + answer))

    def decode(
        self, prompt: Prompt, said: Tokens = (), *, limit: int | None = None, seed: int | None = None
    ) -> Program[Decoded]:
        """What the model says after `prompt` and what it `said`: greedily, or drawn at temperature 1 by a seed.

        At most `limit` tokens (None: as many as the answer may have), and no more than the context lets it.
        """
        text = prompt.tokens + said
        room = min(self.limit if limit is None else limit, self.backend.context_length - len(text))
        if room < 1:
            return Decoded((), "length")
        stop = Stop(prompt.markers, len(prompt.tokens))
        return (yield from ask(Decode(text, room, seed=seed, stop=stop, logit_bias=self.options.bias)))


class JudgedDecoder(Decoder, ABC):
    """Decodes answers and has them judged. Subclasses open the sessions.

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
    def session(self, prompt: Prompt, options: Options, limit: int) -> Session:
        """What decodes and judges the answers to one prompt."""

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        options.refuse_sampling("the baselines decode")
        options.refuse_criterion(f"{type(self).__name__} judges by the criterion it was made with")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        return self.session(built, options, token_limit(built, self.backend, options.max_tokens, overrun=0))
