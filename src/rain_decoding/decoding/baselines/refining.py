"""Self-refinement: criticise the whole answer, write it again."""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.decoding.baselines.guided import GuidedDecoder, in_conversation
from rain_decoding.decoding.baselines.judged import JudgedSession
from rain_decoding.decoding.session import Options
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.programs import Program
from rain_decoding.prompting import Prompt
from rain_decoding.types import Message

CRITIQUE = (
    'Look at your last answer again. It should be such that this is true: "{}" It should not be such that this is '
    'true: "{}" What is wrong with it, in one or two sentences?'
)
REWRITE = "Now answer the request again, without these faults. Write the new answer only."


@dataclass(eq=False, kw_only=True)
class RefiningSession(JudgedSession):
    """Answers greedily, lets the model say what is wrong with the answer, and answers again.

    `statements` are the criterion's, the positive and the negative one first.
    """

    statements: tuple[str, ...]

    def attempts(self) -> Program[None]:
        talk, prompt = list(self.prompt.messages), self.prompt
        answer = yield from self.decode(prompt)
        # Probabilities after different prompts cannot be compared: of like scores the first answer counts.
        yield from self.consider(answer, 0, 0.0)
        for asked in (CRITIQUE.format(*self.statements), REWRITE):
            said = answer_text(self.backend.codec, prompt, answer.tokens)
            talk += [Message("assistant", said), Message("user", asked)]
            prompt = in_conversation(self.backend, self.prompt, talk)
            answer = yield from self.decode(prompt)
        yield from self.consider(answer, -1, 0.0)


class SelfRefineDecoder(GuidedDecoder):
    """Self-refinement (Madaan et al. 2023, arXiv 2303.17651), one round, judged: the greedy answer, the model's own
    criticism of it by the criterion's statements, and the greedy answer after that; the better judged one counts,
    the first where both are judged alike. Arguments and errors are those of `GuidedDecoder`.
    """

    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        in_conversation(self.backend, prompt, prompt.messages)
        judge, owner = self.evaluator.conversation(prompt), self.backend.new_owner()
        return RefiningSession(
            self.backend, prompt, options, limit, owner, judge=judge, statements=self.guide.statements
        )
