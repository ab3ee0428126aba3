"""Decisions: questions about a text whose answers are probabilities of options, read from a model in one step each.

A question stands behind its text, so that what several questions are about is read once. Its options are asked in both
orders: what a model prefers a letter by counts for an option in one of them and against it in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.control_text import neutralised, without_control_tokens
from rain_decoding.errors import ContextLengthError, InputError
from rain_decoding.programs import Program, Together, ask
from rain_decoding.prompting import ASSISTANT_MARKER, SEPARATOR, USER_MARKER, closed_thinking
from rain_decoding.self_evaluation.elsewhere import ElsewhereEvaluator
from rain_decoding.self_evaluation.evaluator import (
    Evaluator,
    LabelTokens,
    SelfEvaluator,
    find_label_tokens,
    log_odds,
)
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.rendering import common_prefix
from rain_decoding.types import Judgement, LabelProbabilities, Message, Tokens, Unanswered

MOST_OPTIONS = len(ascii_uppercase)
LEAD = "The right option is: ("
OPTIONS = "Options:"


@dataclass(frozen=True, slots=True)
class Question:
    """`options` are what the model may choose from, in words; `instructions` what it is asked, or nothing."""

    instructions: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The probability of each option, which sum up to 1, and what their labels hold together in [0, 1], where labels
    were read. None where there is no answer: `problem` says why. `score` is that of the judge, where one answers.
    """

    probabilities: tuple[float, ...] | None
    label_mass: float | None = None
    problem: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as token ids, an entry for each order of its options. The first `shared` of them are those of all
    questions about its text."""

    prompts: tuple[Tokens, ...]
    orders: tuple[tuple[int, ...], ...]
    shared: int


@dataclass(frozen=True)
class Questioner:
    """Asks the model of `backend`."""

    backend: Backend

    def asked(self, text: str, questions: Sequence[Question]) -> list[Asked]:
        """The questions about a text, as they are asked. From any thread.

        Raises:
            InputError: a question has too many options.
            ContextLengthError: one does not fit into the context with the text.
        """
        one, other = (self._prompt(text, Question(words, ("a",)), (0,)) for words in ("a", "Z"))
        shared = one[: common_prefix(one, other)]
        return [self._asked(text, question, shared) for question in questions]

    def _asked(self, text: str, question: Question, shared: Tokens) -> Asked:
        count = len(question.options)
        if not 1 <= count <= MOST_OPTIONS:
            raise InputError(f"a question has {count} options", hint=f"use 1 to {MOST_OPTIONS}")
        forward = tuple(range(count))
        orders = (forward, forward[::-1]) if count > 1 else (forward,)
        prompts = tuple(self._prompt(text, question, order) for order in orders)
        if (longest := max(map(len, prompts))) > self.backend.context_length:
            raise ContextLengthError(
                f"a question has {longest} tokens with its text, and {self.backend.name} a context of "
                f"{self.backend.context_length}",
                hint="shorten the text",
            )
        return Asked(prompts, orders, min(common_prefix(shared, prompt) for prompt in prompts))

    def answer(self, asked: Asked) -> Program[Decision]:
        """What the model says. Raises `CriterionError` where it has no tokens for the labels."""
        count = len(asked.orders[0])
        forms = self._labels.forms[:count]
        labels = tuple(token for (token,) in forms)
        requests = [
            LabelProbabilities(prompt[: len(prompt) - self._labels.dropped], labels, keep=asked.shared)
            for prompt in asked.prompts
        ]
        replies = yield from ask(Together(requests))
        logs, masses = np.zeros(count), []
        for reply, order in zip(replies, asked.orders, strict=True):
            if isinstance(reply, Unanswered):
                return Decision(None, problem=reply.problem)
            logs[list(order)] += np.log(reply + np.finfo(float).tiny) / len(asked.orders)
            masses.append(float(np.sum(reply)))
        shares = np.exp(logs - logs.max())
        return Decision(tuple(map(float, shares / shares.sum())), float(np.mean(masses)))

    @cached_property
    def _labels(self) -> LabelTokens:
        """Of all letters, in the place where they stand."""
        sample = self._rendered("a", Question("a", ("a", "b")), (0, 1))
        return find_label_tokens(self.backend.codec, sample, [(letter,) for letter in ascii_uppercase])

    def _prompt(self, text: str, question: Question, order: Sequence[int]) -> Tokens:
        rendered, start = self._rendered(text, question, order)
        return self.backend.codec.encode(rendered, start=start)

    def _rendered(self, text: str, question: Question, order: Sequence[int]) -> tuple[str, bool]:
        """The prompt, and whether it is encoded as a sequence's start."""
        codec = self.backend.codec
        lines = [f"({ascii_uppercase[place]}) {question.options[index]}" for place, index in enumerate(order)]
        body = f"{self._clean(text)}{SEPARATOR}{self._question(question)}{OPTIONS}\n" + "\n".join(
            map(self._safe, lines)
        )
        if codec.has_chat_template:
            rendered = codec.render_chat([Message("user", body)], thinking=False)
            return closed_thinking(rendered) + LEAD, False
        return f"{body}\n{LEAD}", True

    def _question(self, question: Question) -> str:
        return f"{self._safe(question.instructions)}\n" if question.instructions else ""

    def _safe(self, text: str) -> str:
        return without_control_tokens(text, self.backend.codec.special_texts)

    def _clean(self, text: str) -> str:
        """The text that is asked about, which may neither command the model nor pass for the question."""
        return neutralised(self._safe(text), (OPTIONS, LEAD))


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as a text; what is in a message cannot pass for another one."""
    markers = {"user": f"{USER_MARKER} ", "assistant": f"{ASSISTANT_MARKER} "}

    def turn(message: Message) -> str:
        content = neutralised(message.content, (USER_MARKER, ASSISTANT_MARKER)).strip()
        return markers.get(message.role, "") + content

    return SEPARATOR.join(map(turn, messages))


def probability(evaluator: Evaluator, judgement: Judgement) -> float | None:
    """The probability that a judged text is good, by its judge; None where it is unscored.

    Of a judge that is asked, from the mean log-odds of the orders that it was asked in, whatever its `votes`; of one
    that reads, what it was fitted to; of all others (s + 1) / 2 of their score s.
    """
    if judgement.score is None:
        return None
    if isinstance(evaluator, ElsewhereEvaluator):
        return probability(evaluator.evaluator, judgement)
    if isinstance(evaluator, SelfEvaluator | ReadingEvaluator) and judgement.probabilities:
        mean = float(np.mean([log_odds(order) for order in judgement.probabilities]))
        return float(1 / (1 + np.exp(-mean)))
    return (judgement.score + 1) / 2
