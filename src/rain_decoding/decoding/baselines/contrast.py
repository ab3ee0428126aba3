"""Reverse prompt contrastive decoding: every token against what the opposite instruction would say."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.baselines.guided import in_conversation, with_system
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.session import Options, Session, Steps, token_limit
from rain_decoding.programs import ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import FinishReason, LabelProbabilities, Stop, TopTokens, Unanswered

CANDIDATES = 50
"""Tokens that are compared: the most probable ones under the criterion's system message."""
WEIGHT = 0.5
"""What the opposite counts (alpha)."""
LEAST = 1e-12
"""Probabilities below this count as this."""
OPPOSITE = "Whatever you are asked, this must be true: {}"


@dataclass(eq=False, kw_only=True)
class ContrastSession(Session):
    """Takes the token with the largest log p(token | guided) - `WEIGHT` * log p(token | opposite)."""

    guided: Prompt
    opposite: Prompt

    def steps(self) -> Steps[FinishReason]:
        stop = Stop(self.guided.markers, len(self.guided.tokens))
        while len(self.answer) < self.limit:
            text = self.guided.tokens + self.answer
            asked = TopTokens(text, CANDIDATES, stop=stop, logit_bias=self.options.bias)
            candidates = yield from ask(asked)
            other = self.opposite.tokens + self.answer
            labels = tuple(candidate.token_set.tokens[0] for candidate in candidates)
            against = yield from ask(LabelProbabilities(other, labels, keep=len(other)))
            assert not isinstance(against, Unanswered), "a model in this process answers"
            scores = [
                log(candidate.probability) - WEIGHT * log(max(float(opposed), LEAST))
                for candidate, opposed in zip(candidates, against, strict=True)
            ]
            chosen = candidates[scores.index(max(scores))].token_set
            yield self.commit(chosen.tokens)
            if chosen.finished:
                return "stop"
        return "length"


class ContrastDecoder(Decoder):
    """ROSE (Zhong et al. 2024, arXiv 2402.11889) on every token; nothing is judged. It forwards two tokens for one.

    The system message is the criterion's, the reverse prompt asks for its negative statement; other than in the paper
    only the `CANDIDATES` most probable tokens compete, since those that neither prompt would say differ by noise.

    Args:
        backend: The model, in this process: a server does not give what this takes.
        guide: The criterion.
        prompt_format: How prompts are encoded, see `PromptFormat`. A text that is continued is refused.
    """

    def __init__(self, backend: Backend, guide: Criterion, prompt_format: PromptFormat = "auto"):
        self.backend, self.guide, self.prompt_format = backend, guide, prompt_format

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        options.refuse_sampling("the baselines decode")
        options.refuse_criterion("contrastive decoding is not judged")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        opposite = OPPOSITE.format(self.guide.statements[1])
        guided, reverse = (
            in_conversation(self.backend, built, with_system(built.messages, text))
            for text in (self.guide.asks_for, opposite)
        )
        longest = max((guided, reverse), key=lambda one: len(one.tokens))
        limit = token_limit(longest, self.backend, options.max_tokens, overrun=0)
        owner = self.backend.new_owner()
        return ContrastSession(self.backend, guided, options, limit, owner, guided=guided, opposite=reverse)
