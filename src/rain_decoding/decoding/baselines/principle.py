"""The principle as a system message: what everybody does today; and with a refusal where that did not help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rain_decoding.decoding.baselines.guided import (
    GuidedDecoder,
    InstructedDecoder,
    in_conversation,
    with_system,
)
from rain_decoding.decoding.baselines.judged import JudgedSession
from rain_decoding.decoding.decoder import PromptLike
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL
from rain_decoding.decoding.plain_session import PlainSession
from rain_decoding.decoding.session import Options, Session, Steps, token_limit
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.prompting import Prompt
from rain_decoding.types import Completion, FinishReason, Tokens


class PrincipleDecoder(InstructedDecoder):
    """Greedy decoding under the criterion's system message; nothing is judged. Arguments: `InstructedDecoder`."""

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        (guided,) = self.instructed(prompt, options, self.guide.asks_for)
        limit = token_limit(guided, self.backend, options.max_tokens, overrun=0)
        return PlainSession(self.backend, guided, options, limit, self.backend.new_owner())


@dataclass(eq=False, kw_only=True)
class PrincipleOrRefusalSession(JudgedSession):
    """Decodes greedily under `guided`, and puts a refusal in the place of an answer that is judged bad."""

    guided: Prompt
    withheld: Tokens = ()

    def steps(self) -> Steps[FinishReason]:
        decoded = yield from self.decode(self.guided)
        self.score = (yield from self.verdict(decoded.tokens)).score
        if self.score is None or self.score <= 0:
            self.withheld = decoded.tokens
        else:
            yield self.commit(decoded.tokens, value=self.score)
        return "stop" if decoded.reason == "stop" else "length"

    def completion(self, reason: FinishReason) -> Completion:
        completion = super().completion(reason)
        if self.withheld:
            completion.text, completion.fallback = DEFAULT_REFUSAL, "refusal"
            completion.withheld = answer_text(self.backend.codec, self.prompt, self.withheld)
            completion.score = None
        return completion


class PrincipleOrRefusalDecoder(GuidedDecoder):
    """Greedy decoding under the criterion's system message; an answer that is judged bad becomes a refusal.

    The answer is judged as one to the user's own messages, as all others are. Arguments and errors are those of
    `GuidedDecoder`.
    """

    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        guided = in_conversation(self.backend, prompt, with_system(prompt.messages, self.guide.asks_for))
        judge, owner = self.evaluator.conversation(prompt), self.backend.new_owner()
        common: dict[str, Any] = {"judge": judge, "guided": guided}
        return PrincipleOrRefusalSession(self.backend, prompt, options, limit, owner, **common)
