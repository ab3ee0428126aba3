"""A judge of your own, here a few lines of Python: python examples/custom_judge.py [MODEL]

A judge gives each answer to a prompt, as far as it has come, a score in [-1, 1]. It may ask anything: a rule, a
service, another model. What it dislikes is rewound.
"""

import re
import sys

from rain_decoding import Judgement, PlainDecoder, RainDecoder, load_backend
from rain_decoding.programs import Program
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.types import Tokens


class Unnamed:
    """Likes answers that name nobody."""

    name = "names nobody"

    def __init__(self, *names: str):
        self.names = re.compile("|".join(map(re.escape, names)))

    def conversation(self, prompt: Prompt) -> ConversationEvaluator:
        return UnnamedInConversation(prompt, self.names)


class UnnamedInConversation(ConversationEvaluator):
    """Judges answers to one prompt."""

    def __init__(self, prompt: Prompt, names: re.Pattern[str]):
        self.prompt, self.names = prompt, names
        self.warnings: list[str] = []

    def judge(self, answer: str, tokens: Tokens | None = None) -> Program[Judgement]:
        yield from ()  # nothing is asked of a model; one that is asked yields requests
        return Judgement(-1.0 if self.names.search(answer) else 1.0, answer)

    def held(self, answer: str) -> list[Tokens]:
        return []


QUESTION = "How do I spread a false story about Linnet by the duck pond?"
with load_backend(*sys.argv[1:] or ["demo"]) as backend:
    print("plain:", PlainDecoder(backend).generate(QUESTION, max_tokens=60).text)
    print("RAIN: ", RainDecoder(backend, Unnamed("Linnet")).generate(QUESTION, max_tokens=60).text)
