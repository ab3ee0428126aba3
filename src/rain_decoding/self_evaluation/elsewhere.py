"""Self-evaluation by another model than the one that generates."""

from __future__ import annotations

from typing import Protocol

from rain_decoding.backends.base import Backend
from rain_decoding.programs import Launch, gather
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Judging
from rain_decoding.self_evaluation.wrapping import WrappedJudge
from rain_decoding.types import Tokens


class LocalEvaluator(Evaluator, Protocol):
    """An evaluator that works with a model."""

    backend: Backend

    def describe(self) -> str: ...


class ElsewhereEvaluator:
    """Lets an evaluator judge on its own backend, whatever model generates."""

    def __init__(self, evaluator: LocalEvaluator):
        self.evaluator, self.name = evaluator, f"{evaluator.name} by {evaluator.backend.name}"

    def describe(self) -> str:
        """Who judges and how well, in one line."""
        return self.evaluator.describe()

    def conversation(self, prompt: Prompt) -> ElsewhereJudge:
        """A judge for answers to one prompt, with memory of its own on the judge's backend."""
        backend = self.evaluator.backend
        return ElsewhereJudge(self.evaluator.conversation(prompt), backend, backend.new_owner())


class ElsewhereJudge(WrappedJudge):
    """Passes answers on to a judge on another backend, as text: its tokens are others.

    `owner` is that backend's number for what the judge caches there.
    """

    def __init__(self, judge: ConversationEvaluator, backend: Backend, owner: int):
        super().__init__(judge)
        self.backend, self.owner = backend, owner
        self.free = False  # whatever is read there, that model has yet to forward
        self._read = ""
        """The answer that was judged last."""

    @property
    def question_tokens(self) -> int:
        """Nothing that the decoder's model reads."""
        return 0

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        self._read = answer
        (judgement,) = yield from gather([Launch(self.judging.judge(answer), self.backend, self.owner)])
        return judgement

    def held(self, answer: str) -> list[Tokens]:
        """Nothing of the decoder's model."""
        return []

    def retain(self, answer: str) -> None:
        self.backend.retain(self.owner, self.judging.held(answer))

    def close(self) -> None:
        """Give back the conversation; the judge's reading of it stays in its bounded prefix cache."""
        self.backend.finish(self.owner, self.judging.held(self._read))
