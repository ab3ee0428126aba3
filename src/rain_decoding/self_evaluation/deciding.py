"""A criterion asked of a server that answers questions with probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rain_decoding.backends.decisions import Decide, DecisionServer
from rain_decoding.control_text import neutralised, without_control_tokens
from rain_decoding.errors import CriterionError
from rain_decoding.programs import Launch, ask, gather
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.decisions import transcript
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Judging, Votes, score, warn_once
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.self_evaluation.rendering import judged_answer
from rain_decoding.types import Judgement, Message, Tokens, Unanswered


class DecidingEvaluator:
    """Has the statements of a criterion chosen from, in both orders; `votes` and `min_label_mass` as elsewhere.

    Raises `CriterionError` for a criterion without statements.
    """

    proven = False
    """Nobody has tried how well the server tells this apart."""

    def __init__(self, server: DecisionServer, criterion: Criterion, votes: Votes, min_label_mass: float):
        if not criterion.statements:
            raise CriterionError(
                f"the criterion {criterion.name} has no statements to choose from",
                hint="use another criterion",
            )
        self.server, self.criterion, self.votes, self.min_label_mass = (
            server,
            criterion,
            votes,
            min_label_mass,
        )
        self.name = f"{criterion.name} by {server.name}"

    def conversation(self, prompt: Prompt) -> DecidingJudge:
        """A judge for answers to one prompt. It remembers what it judged."""
        return DecidingJudge(self, prompt)


class DecidingJudge(ConversationEvaluator):
    """Judges answers to one prompt. What is judged can neither forge a turn nor a control token."""

    def __init__(self, evaluator: DecidingEvaluator, prompt: Prompt):
        self.evaluator, self.prompt = evaluator, prompt
        self.warnings: list[str] = []
        self._memo: dict[str, Judgement] = {}

    @property
    def guidance(self) -> Guidance | None:
        return self.evaluator.criterion.guidance

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        evaluator, criterion = self.evaluator, self.evaluator.criterion
        seen = judged_answer(criterion, self.prompt, answer)
        if seen in self._memo:
            return replace(self._memo[seen], remembered=True)
        said = [self._clean(message) for message in (*self.prompt.turns, Message("assistant", seen))]
        request = Decide(
            criterion.instruction, said, transcript(said), criterion.statements, criterion.orders
        )
        (found,) = yield from gather([Launch(ask(request), evaluator.server)])
        if isinstance(found, Unanswered):  # another time there may be an answer
            warn_once(self, f"a text could not be judged: {found.problem}")
            return Judgement(None, seen, problem=found.problem, unreached=found.unreached)
        masses, shares = found[:, 0], found[:, 1:]
        probabilities = tuple(tuple(map(float, row)) for row in shares * masses[:, np.newaxis])
        judgement = Judgement(
            score(probabilities, evaluator.votes), seen, probabilities, tuple(map(float, masses))
        )
        if min(masses) < evaluator.min_label_mass:
            problem = "the labels have less probability than min_label_mass"
            judgement = replace(judgement, score=None, problem=problem)
        self._memo[seen] = judgement
        return judgement

    def held(self, answer: str) -> list[Tokens]:
        return []

    def _clean(self, message: Message) -> Message:
        text = neutralised(without_control_tokens(message.content, ()), self.evaluator.criterion.markers)
        return Message(message.role, text)
