"""Reverse prompt contrastive decoding: every token against what the opposite instruction would say."""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.baselines.guided import in_conversation, with_system
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.plain_session import PIECE
from rain_decoding.decoding.session import Options, Session, Steps, token_limit
from rain_decoding.programs import ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import Decode, FinishReason, Stop

CONTRAST = 1.0
"""(1 + 1) * own - 1 * opposite orders tokens as own - 0.5 * opposite does: the paper's alpha is 0.5."""
OPPOSITE = "Whatever you are asked, this must be true: {}"


@dataclass(eq=False, kw_only=True)
class ContrastSession(Session):
    """Decodes greedily behind the prompt, with the logits behind the `opposite` one against it."""

    opposite: Prompt

    def steps(self) -> Steps[FinishReason]:
        stop = Stop(self.prompt.markers, len(self.prompt.tokens))
        while (left := self.limit - len(self.answer)) > 0:
            piece = Decode(
                self.prompt.tokens + self.answer,
                min(PIECE, left),
                stop=stop,
                logit_bias=self.options.bias,
                against=self.opposite.tokens + self.answer,
                contrast=CONTRAST,
            )
            decoded = yield from ask(piece)
            yield self.commit(decoded.tokens)
            if decoded.reason == "stop":
                return "stop"
        return "length"


class ContrastDecoder(Decoder):
    """ROSE (Zhong et al. 2024, arXiv 2402.11889) on every token; nothing is judged. It forwards two tokens for one.

    The system message is the criterion's, the reverse prompt asks for its negative statement; other than in the paper,
    tokens that are improbable under the system message do not compete (see `backends.sampling.contrasted`).

    Args:
        backend: The model; it has to give logits (`Capabilities.contrast`).
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
        return ContrastSession(
            self.backend, guided, options, limit, self.backend.new_owner(), opposite=reverse
        )
