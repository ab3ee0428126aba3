"""Reverse prompt contrastive decoding: every token against what the opposite instruction would say."""

from __future__ import annotations

from rain_decoding.decoding.baselines.guided import InstructedDecoder
from rain_decoding.decoding.decoder import PromptLike
from rain_decoding.decoding.plain_session import PlainSession
from rain_decoding.decoding.session import Options, Session, token_limit

CONTRAST = 1.0
"""(1 + 1) * own - 1 * opposite orders tokens as own - 0.5 * opposite does: the paper's alpha is 0.5."""
OPPOSITE = "Whatever you are asked, this must be true: {}"


class ContrastDecoder(InstructedDecoder):
    """ROSE (Zhong et al. 2024, arXiv 2402.11889) on every token; nothing is judged. It forwards two tokens for one.

    The system message is the criterion's, the reverse prompt asks for its negative statement; other than in the paper,
    tokens that are improbable under the system message do not compete (see `backends.sampling.contrasted`). Arguments
    are those of `InstructedDecoder`; the model has to give logits (`Capabilities.contrast`).
    """

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        opposite = OPPOSITE.format(self.guide.statements[1])
        guided, reverse = self.instructed(prompt, options, self.guide.asks_for, opposite)
        longest = max((guided, reverse), key=lambda one: len(one.tokens))
        limit = token_limit(longest, self.backend, options.max_tokens, overrun=0)
        owner = self.backend.new_owner()
        return PlainSession(
            self.backend, guided, options, limit, owner, against=reverse.tokens, contrast=CONTRAST
        )
