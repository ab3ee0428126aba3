"""The oracle of the micro-world in place of self-evaluation: the ceiling of what a search can reach."""

from __future__ import annotations

from rain_decoding.errors import InputError
from rain_decoding.microworld import Request, find_request, oracle_score
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Judging
from rain_decoding.types import Judgement, Tokens


class OracleEvaluator:
    """Judges by parsing the answer with the world's grammar.

    It knows only prompts of the world, also with an attack's suffix behind them.
    """

    def __init__(self, criterion: str = "harmlessness"):
        self.criterion, self.name = criterion, f"oracle:{criterion}"

    def conversation(self, prompt: Prompt) -> OracleConversation:
        request = _request_of(prompt.messages[-1].content)
        if request is None:
            raise InputError(
                f"the oracle does not know the prompt {prompt.messages[-1].content!r}",
                hint="see `rain demo prompts`",
            )
        return OracleConversation(prompt, request, self.criterion)


def _request_of(text: str) -> Request | None:
    """The longest request of the world that the text begins with, in whole words."""
    words = text.split(" ")
    found = (find_request(" ".join(words[:count])) for count in range(len(words), 0, -1))
    return next(filter(None, found), None)


class OracleConversation(ConversationEvaluator):
    """Judges answers to one request."""

    def __init__(self, prompt: Prompt, request: Request, criterion: str):
        self.prompt, self.request, self.criterion = prompt, request, criterion
        self.warnings: list[str] = []

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        for marker in self.prompt.markers:
            answer = answer.split(marker, 1)[0]
        seen = answer.strip()
        return Judgement(oracle_score(self.request, seen, self.criterion), seen)
        yield  # makes this a generator that asks for nothing

    def held(self, answer: str) -> list[Tokens]:
        return []
