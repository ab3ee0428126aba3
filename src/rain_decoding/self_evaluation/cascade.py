"""A cascade: the model is read, and another judge is asked only where the reading is unsure."""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import (
    ConversationEvaluator,
    Evaluator,
    Judging,
    description,
)
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import Judgement, Tokens


class Cascade:
    """Judges by `reading`, and escalates to the judge `behind` where that is unsure.

    `sure` in [0.5, 1] is the probability of its own verdict from which the reading is sure: see
    `SearchConfig.read_surely`.
    """

    def __init__(self, reading: Evaluator, behind: Evaluator, sure: float):
        self.reading, self.behind, self.sure = reading, behind, sure
        self.name = f"{reading.name}, else {behind.name}"

    def describe(self) -> str:
        """Who judges and how well, in one line."""
        reading, behind = (description(each) for each in (self.reading, self.behind))
        return f"{reading}; where that is less than {self.sure:.0%} sure, {behind}"

    def conversation(self, prompt: Prompt) -> CascadeJudge:
        """A judge for answers to one prompt."""
        return CascadeJudge(self, prompt)


class CascadeJudge(ConversationEvaluator):
    """Judges answers to one prompt. What the reading is sure of costs what reading costs."""

    def __init__(self, cascade: Cascade, prompt: Prompt):
        self.cascade, self._prompt = cascade, prompt
        self.reading, self.behind = cascade.reading.conversation(prompt), cascade.behind.conversation(prompt)
        self.free = self.reading.free
        self.warnings: list[str] = []
        self._escalated = False
        """Whether the judge behind was asked about this conversation: before that it holds nothing."""

    @property
    def prompt(self) -> Prompt:
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        self._prompt = self.reading.prompt = self.behind.prompt = prompt

    @property
    def guidance(self) -> Guidance | None:
        return self.reading.guidance or self.behind.guidance

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        """Judge an answer. Where the judge behind gives no score, the reading's stands."""
        read = yield from self.reading.judge(answer, tokens)
        asked = None
        if not self._is_sure(read):
            self._escalated = True
            asked = yield from self.behind.judge(answer, tokens)
        self.warnings[:] = [*self.reading.warnings, *self.behind.warnings]
        return read if asked is None else self._escalation(read, asked)

    def _is_sure(self, read: Judgement) -> bool:
        """Whether the probability of good or of bad is large enough; nothing is sure of what could not be read."""
        return any(max(each) >= self.cascade.sure for each in read.probabilities)

    def _escalation(self, read: Judgement, asked: Judgement) -> Judgement:
        """What both say together. Where they differ, the reading does not know where the text turned."""
        known = None not in (read.score, asked.score)
        agree = not known or ((read.score or 0) > 0) == ((asked.score or 0) > 0)
        names = self.cascade.reading.name, self.cascade.behind.name
        return replace(
            read if asked.score is None else asked,
            problem=asked.problem,
            remembered=asked.remembered,
            parts={**dict(zip(names, (read.score, asked.score), strict=True)), **asked.parts},
            course=read.course if agree else (),
            sentences=read.sentences if agree else (),
            harmful=read.harmful,
            unreached=asked.unreached and read.score is None,
            escalated=True,
        )

    def held(self, answer: str) -> list[Tokens]:
        return [*self.reading.held(answer), *(self.behind.held(answer) if self._escalated else [])]

    def retain(self, answer: str) -> None:
        self.reading.retain(answer)
        if self._escalated:
            self.behind.retain(answer)

    def close(self) -> None:
        self.reading.close()
        self.behind.close()
