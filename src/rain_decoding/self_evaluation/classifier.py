"""A sequence-classification model as the judge: `hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]`.

Options: `positive` and `negative`, names of labels, and `input`: "answer" (the answer alone), "pair" (what comes
before it, and the answer, as two texts) or "chat" (the conversation in the tokenizer's chat template; the default
where there is one, else "answer").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from rain_decoding.control_text import without_control_tokens
from rain_decoding.errors import ConfigError, MissingDependencyError
from rain_decoding.extras import install
from rain_decoding.programs import Launch, ask, gather
from rain_decoding.prompting import SEPARATOR, Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Judging
from rain_decoding.self_evaluation.rendering import own_answer
from rain_decoding.types import Judgement, Message, Tokens

if TYPE_CHECKING:
    from rain_decoding.backends.transformers.classifier import Classifier, Classify

Input = Literal["answer", "pair", "chat"]

GOOD = {
    "positive",
    "pos",
    "safe",
    "harmless",
    "nontoxic",
    "nothate",
    "nonhate",
    "notoffensive",
    "nonoffensive",
}
BAD = {"negative", "neg", "unsafe", "harmful", "toxic", "hate", "hateful", "offensive"}
BETWEEN = {"neutral", "mixed", "controversial"}
"""What common classifiers call their labels, letters only."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Which labels speak for and against a text, by their place; the score says by how much, in [-1, 1].

    With one of them alone, everything else speaks for the opposite: 2p - 1, or 1 - 2p.
    """

    positive: int | None
    negative: int | None

    def score(self, probabilities: Sequence[float]) -> float:
        if self.negative is None:
            assert self.positive is not None
            return float(2 * probabilities[self.positive] - 1)
        if self.positive is None:
            return float(1 - 2 * probabilities[self.negative])
        return float(probabilities[self.positive] - probabilities[self.negative])


def load_classifier(text: str) -> ClassifierEvaluator:
    """The judge that `text` names, without `hf-classifier:`; a model is loaded once.

    Raises `ConfigError` for an unknown option, a label that the model does not have, or labels that say nothing,
    `MissingDependencyError` without transformers, and what loading the model raises.
    """
    name, _, query = text.partition("#")
    options = _options(query)
    model = _load(name)
    given: Any = options.get("input", "chat" if model.tokenizer.chat_template else "answer")
    if given not in get_args(Input):
        raise ConfigError(f"input = {given!r}", hint=f"use one of: {', '.join(get_args(Input))}")
    if given == "chat" and not model.tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {name} has no chat template", hint="use input=pair or input=answer"
        )
    return ClassifierEvaluator(model, direction(model.labels, options), given, name=f"hf-classifier:{text}")


@lru_cache(maxsize=4)
def _load(name: str) -> Classifier:
    try:
        from rain_decoding.backends.transformers.classifier import load
    except ImportError as error:
        raise MissingDependencyError(
            f"classifiers need {error.name or 'torch'}", hint=install("hf")
        ) from error
    return load(name)


def _options(query: str) -> dict[str, str]:
    options = {key: value for key, _, value in (part.partition("=") for part in query.split("&") if part)}
    for key, value in options.items():
        if key not in ("positive", "negative", "input") or not value:
            raise ConfigError(
                f"{key}={value!r} is not an option of a classifier",
                hint="options: positive=LABEL, negative=LABEL, input=...",
            )
    return options


def direction(labels: Sequence[str], options: Mapping[str, str]) -> Direction:
    """Which labels are good and bad: as the options say, else as their names do.

    Raises `ConfigError` naming the labels where neither says so.
    """
    names = [label.lower() for label in labels]
    hint = f"labels: {', '.join(labels)}; say which is good: hf-classifier:NAME#positive=LABEL, or #negative=LABEL"
    for key in ("positive", "negative"):
        if key in options and options[key].lower() not in names:
            raise ConfigError(f"the classifier has no label {options[key]!r}", hint=hint)
    places = [
        names.index(options[key].lower()) if key in options else None for key in ("positive", "negative")
    ]
    if places != [None, None]:
        return Direction(*places)
    plain = [re.sub("[^a-z]", "", name) for name in names]
    known = [[place for place, name in enumerate(plain) if name in group] for group in (GOOD, BAD)]
    if [len(found) for found in known] != [1, 1] or not {*plain} <= GOOD | BAD | BETWEEN:
        raise ConfigError("the classifier's labels do not say which is good", hint=hint)
    return Direction(known[0][0], known[1][0])


class ClassifierEvaluator:
    """Judges by the labels of a classifier, whatever model generates."""

    def __init__(self, model: Classifier, direction: Direction, input: Input, *, name: str):
        self.model, self.direction, self.input, self.name = model, direction, input, name

    def conversation(self, prompt: Prompt) -> ClassifierJudge:
        """A judge for answers to one prompt. It remembers what it judged."""
        return ClassifierJudge(self, prompt)


class ClassifierJudge(ConversationEvaluator):
    """Judges answers to one prompt. Control tokens in them are broken, as in all that is judged."""

    def __init__(self, evaluator: ClassifierEvaluator, prompt: Prompt):
        self.evaluator, self.prompt = evaluator, prompt
        self.warnings: list[str] = []
        self._memo: dict[str, Judgement] = {}

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        """Judge an answer; without the oldest turns where there is no room, and unscored where there is none."""
        seen = self._clean(own_answer(self.prompt, answer))
        if seen in self._memo:
            return replace(self._memo[seen], remembered=True)
        request = self._encode(seen)
        if request is None:
            judgement = Judgement(None, seen, problem="the text does not fit into the classifier's context")
        else:
            (found,) = yield from gather([Launch(ask(request), self.evaluator.model)])
            probabilities = tuple(map(float, found))
            judgement = Judgement(self.evaluator.direction.score(probabilities), seen, (probabilities,))
        self._memo[seen] = judgement
        return judgement

    def held(self, answer: str) -> list[Tokens]:
        return []

    def _encode(self, seen: str) -> Classify | None:
        """The answer as the classifier reads it, behind as many of the turns as there is room for."""
        model = self.evaluator.model
        turns = len(self.prompt.turns)
        # A template takes whole exchanges; a text that is continued is no turn to leave out.
        drops = {"answer": range(1), "pair": range(turns), "chat": range(0, turns, 2)}[self.evaluator.input]
        for dropped in range(1) if self.prompt.format == "text" else drops:
            request = self._rendered(seen, dropped)
            if len(request.tokens) <= model.max_tokens:
                if dropped:
                    self._warn(
                        f"the classifier did not see the first {dropped} of {turns} earlier turns, for lack of room"
                    )
                return request
        return None

    def _rendered(self, seen: str, dropped: int) -> Classify:
        model, kind = self.evaluator.model, self.evaluator.input
        turns = [Message(turn.role, self._clean(turn.content)) for turn in self.prompt.turns[dropped:]]
        before = SEPARATOR.join(turn.content for turn in turns)
        if kind == "chat":
            messages = [*turns, Message("assistant", seen)]
            return model.encode(model.render(messages), special=False)
        if kind == "pair":
            return model.encode(before, seen)
        return model.encode(before + seen if self.prompt.format == "text" else seen)

    def _clean(self, text: str) -> str:
        return without_control_tokens(text, self.evaluator.model.control_texts)

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
