"""Decisions as a session: many questions about one text, answered in the same steps as everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.decoding.session import Session, Steps
from rain_decoding.programs import Launch, Program, gather
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.decisions import Asked, Decision, Questioner, probability
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator
from rain_decoding.types import FinishReason, Tokens


@dataclass(frozen=True, slots=True)
class GoodAnswer:
    """The question whether an answer to a prompt is good: by a criterion, by a principle, or else as the decoder
    judges."""

    prompt: Prompt
    answer: str
    criterion: str | None = None
    principle: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The same, with the judge that answers it."""

    evaluator: Evaluator
    judge: ConversationEvaluator
    answer: str

    @property
    def program(self) -> Program[Decision]:
        judgement = yield from self.judge.judge(self.answer)
        good = probability(self.evaluator, judgement)
        if good is None:
            return Decision(None, problem=judgement.problem or "the text could not be judged")
        masses = judgement.label_mass
        mass = sum(masses) / len(masses) if masses else None
        return Decision((good, 1 - good), mass, score=judgement.score)


@dataclass(eq=False, kw_only=True)
class DecisionSession(Session):
    """Questions of both kinds, together; `decisions` has the answers in their order once it ends."""

    questions: Sequence[Asked | Judged]
    questioner: Questioner
    decisions: Sequence[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        model = self.questioner.backend
        self._asked_owner = self.owner if model is self.backend else model.new_owner()

    def steps(self) -> Steps[FinishReason]:
        self.decisions = yield from gather(map(self._launch, self.questions))
        return "stop"

    def _launch(self, question: Asked | Judged) -> Launch[Decision]:
        if isinstance(question, Judged):
            return Launch(question.program)
        model: Any = self.questioner.backend
        program = self.questioner.answer(question)
        return Launch(program) if model is self.backend else Launch(program, model, self._asked_owner)

    def kept_sequences(self) -> Iterable[Tokens]:
        return () if self.questioner.backend is not self.backend else self._texts()

    def _texts(self) -> Iterator[Tokens]:
        """What was asked about, as the model read it: more questions about it may come."""
        for question in self.questions:
            if isinstance(question, Asked):
                yield question.prompts[0][: question.shared]
                return

    def finish(self) -> None:
        for question in self.questions:
            if isinstance(question, Judged):
                question.judge.close()
        if self.questioner.backend is not self.backend:
            self.questioner.backend.finish(self._asked_owner, self._texts())
        super().finish()
