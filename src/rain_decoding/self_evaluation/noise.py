"""Judges that err at a known rate, to see how good a judge a search needs."""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.prompting import Prompt
from rain_decoding.search.randomness import derive_seed, uniforms
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Judging
from rain_decoding.self_evaluation.wrapping import WrappedJudge
from rain_decoding.types import Tokens


class NoisyEvaluator:
    """Flips verdicts of another evaluator, each with probability `flips` in [0, 1].

    Which ones, depends on the prompt, the text that was judged and `seed` alone: the same text always gets the same
    verdict, however often it is judged. A score of 0 stays, and so does what is unscored. A flipped verdict has no
    course: the evaluator's own would say where the text turned to what it is said not to be.
    """

    def __init__(self, evaluator: Evaluator, flips: float, seed: int = 0):
        self.evaluator, self.flips, self.seed = evaluator, flips, seed
        self.name = f"{evaluator.name}, {flips:g} flipped"

    def conversation(self, prompt: Prompt) -> NoisyJudge:
        """A judge for answers to one prompt."""
        return NoisyJudge(self.evaluator.conversation(prompt), self.flips, self.seed)


class NoisyJudge(WrappedJudge):
    """Has another judge judge, and flips some of its verdicts."""

    def __init__(self, judge: ConversationEvaluator, flips: float, seed: int):
        super().__init__(judge)
        self.flips, self.seed = flips, seed

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        judgement = yield from self.judging.judge(answer, tokens)
        if not judgement.score or not self._errs(judgement.text):
            return judgement
        return replace(judgement, score=-judgement.score, course=(), sentences=())

    def _errs(self, seen: str) -> bool:
        asked = "".join(message.content for message in self.prompt.messages)
        draw = uniforms(derive_seed(self.seed, (), f"flip|{asked}|{seen}"))
        return draw.random() < self.flips
