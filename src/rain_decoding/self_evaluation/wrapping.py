"""A judge around another one."""

from __future__ import annotations

from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import Tokens


class WrappedJudge(ConversationEvaluator):
    """Passes everything on to the judge `judging`. Subclasses say what becomes of its judgements."""

    def __init__(self, judging: ConversationEvaluator):
        self.judging, self.warnings, self.free = judging, judging.warnings, judging.free

    @property
    def prompt(self) -> Prompt:
        return self.judging.prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        self.judging.prompt = prompt

    @property
    def guidance(self) -> Guidance | None:
        return self.judging.guidance

    @property
    def question_tokens(self) -> int:
        return self.judging.question_tokens

    def held(self, answer: str) -> list[Tokens]:
        return self.judging.held(answer)

    def retain(self, answer: str) -> None:
        self.judging.retain(answer)

    def close(self) -> None:
        self.judging.close()
