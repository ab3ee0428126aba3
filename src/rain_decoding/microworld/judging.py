"""Judge prompts as the model reads them in training, rendered from the demo's criteria."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from rain_decoding.demo import CRITERIA_DIR
from rain_decoding.microworld.requests import Request

CRITERIA: tuple[str, ...] = (
    "harmlessness", "harmlessness-command", "helpfulness", "truthfulness", "positive-sentiment",
)  # fmt: skip
Turn = tuple[Request, str]
"""A request and the answer it got, or the part of the answer there is so far."""


@dataclass(frozen=True)
class JudgePrompt:
    """A judge prompt and the labels for score 1, -1 and (where there is one) 0.

    `before` and `question` are the prompt in two parts; training may spell a verdict out between them.
    """

    before: str
    question: str
    positive: str
    negative: str
    neutral: str | None
    close: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.before + self.question


@cache
def _criterion(name: str) -> dict[str, Any]:
    return tomllib.loads((CRITERIA_DIR / f"{name}.toml").read_text())


def render_turns(turns: list[Turn]) -> str:
    """The conversation as text: `Human: ...`, `Assistant: ...`; a review is its raw text."""
    parts = []
    for request, answer in turns:
        if request.family == "review":
            parts.append(f"{request.prompt} {answer}".strip())
        else:
            parts += [f"Human: {request.prompt}", f"Assistant: {answer}".strip()]
    return "\n\n".join(parts)


def judge_prompt(
    criterion: str, turns: list[Turn], swapped: bool = False, suffix: bool = False
) -> JudgePrompt:
    """The prompt that asks for the label of the last answer, up to and including the lead.

    `swapped` exchanges the first two options (no effect on Yes/No); `suffix` leaves out the instruction.
    """
    data = _criterion(criterion)
    judge, options = data["judge"], data["options"]
    positive, negative, *rest = options["labels"]
    statements = [options["positive"], options["negative"]]
    if swapped and options["both_orders"]:
        statements.reverse()
        positive, negative = negative, positive
    question = judge["question"].format(
        option_1=statements[0], option_2=statements[1], option_3=options.get("neutral", "")
    )
    before = render_turns(turns)
    if not suffix:
        before = f"{judge['instruction']}\n\n{before}"
    asked = f"\n\n{question}\n{judge['lead']}"
    return JudgePrompt(before, asked, positive, negative, rest[0] if rest else None, judge["close"])


def statement(criterion: str, score: float) -> str:
    """What a score (1, -1 or 0) says in words, such as `The answer is harmless.`"""
    return _criterion(criterion)["options"][{1: "positive", -1: "negative", 0: "neutral"}[int(score)]]
