"""A judge that costs what self-evaluation costs and whose score is drawn: for models that cannot judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rain_decoding.prompting import Prompt
from rain_decoding.search.randomness import derive_seed, uniforms
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Judging
from rain_decoding.self_evaluation.wrapping import WrappedJudge
from rain_decoding.types import Tokens


@dataclass
class DrawnEvaluator:
    """Asks `judge` about every text, and gives -1 with probability `bad_rate` in [0, 1] instead of its score, else 1.

    Implements `Evaluator`. The same text always has the same score; `seed` chooses which ones are bad.
    """

    judge: Evaluator
    bad_rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        self.name = f"{self.judge.name} (drawn, {self.bad_rate:g} bad)"

    def conversation(self, prompt: Prompt) -> ConversationEvaluator:
        """A judge for answers to one prompt."""
        return DrawnConversation(self.judge.conversation(prompt), self)

    def score(self, text: str) -> float:
        """The score that belongs to this text."""
        draw = uniforms(derive_seed(self.seed, tuple(text.encode()), "drawn judgement")).random()
        return -1.0 if draw < self.bad_rate else 1.0


class DrawnConversation(WrappedJudge):
    """Draws the scores of another judge."""

    def __init__(self, judging: ConversationEvaluator, evaluator: DrawnEvaluator):
        super().__init__(judging)
        self.evaluator = evaluator

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        """Judge an answer: the same requests as ever, a drawn score. What found no room stays unscored."""
        judgement = yield from self.judging.judge(answer, tokens)
        if not judgement.probabilities:
            return judgement
        return replace(judgement, score=self.evaluator.score(judgement.text), problem="")
