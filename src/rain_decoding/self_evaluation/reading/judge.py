"""Judging by a probe: the states of the answer's tokens are there already, so a judgement costs nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.config import SENTENCE_ENDINGS
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Judging
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.reading.states import answer_tokens, request_span
from rain_decoding.types import HiddenStates, Judgement, Tokens


class ReadingEvaluator:
    """Judges answers by what a probe reads in the hidden states of `backend`, whose model must be the probe's.

    The text may be its own, or that of another model that it reads `along` with.
    """

    def __init__(
        self,
        backend: Backend,
        probe: Probe,
        name: str,
        *,
        along: bool = False,
        guidance: Guidance | None = None,
    ):
        """Has the backend keep the states of the probe's layers. Raises `UnsupportedError` where it cannot."""
        backend.keep_layers(probe.layers)
        self.backend, self.probe, self.name, self.along = backend, probe, name, along
        self.guidance = guidance

    def describe(self) -> str:
        """Who judges and how well, in one line."""
        figures, probe = self.probe.figures, self.probe
        accuracy = figures.get("balanced_accuracy")
        right = f", right in {accuracy['value']:.0%} of held-out examples" if accuracy else ""
        alarms = figures.get("false_alarms")
        false = f", {probe.false_alarms:.0%} false alarms (at most {alarms['high']:.0%})" if alarms else ""
        return f"{self.name}: {probe.place} of {self.backend.name}{right}{false}"

    def conversation(self, prompt: Prompt) -> ReadingJudge:
        """A judge for answers to one prompt."""
        return ReadAlongJudge(self, prompt) if self.along else ReadingJudge(self, prompt)


class ReadingJudge(ConversationEvaluator):
    """Judges answers to one prompt, and no tokens twice.

    The last token of an answer is not read: nothing has been forwarded behind it yet, and of an end of sequence
    nothing ever is. An answer of one token is read all the same.
    """

    free = True

    def __init__(self, evaluator: ReadingEvaluator, prompt: Prompt):
        self.evaluator, self.prompt = evaluator, prompt
        self.warnings: list[str] = []
        self._memo: dict[Tokens, Judgement] = {}
        self._harmful = 0.0
        """The probability that the request is harmful, of the prompt `_asked`."""
        self._asked: Prompt | None = None

    @property
    def guidance(self) -> Guidance | None:
        return self.evaluator.guidance

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        tokens = self._tokens(answer) if tokens is None else tokens
        if tokens in self._memo:
            return replace(self._memo[tokens], remembered=True)
        start = len(self.prompt.tokens)
        read = tokens[: max(len(tokens) - 1, start + 1)]
        if len(read) == start:
            return Judgement(None, answer, problem="there are no tokens to read")
        if len(read) > self.evaluator.backend.context_length:
            return Judgement(None, answer, problem="the text does not fit into the reading model's context")
        states = yield from self._states(read)
        begins = self._sentences(tokens[start:])
        self._memo[tokens] = judgement = self._judgement(answer, states, begins)
        return judgement

    def _states(self, read: Tokens) -> Program[np.ndarray]:
        """States from the last token before the answer on. What the request's say is found out with the first."""
        probe, last = self.evaluator.probe, len(self.prompt.tokens) - 1
        begin, end = last, last
        if probe.wary is not None and self._asked is not self.prompt:
            begin, end = request_span(self.evaluator.backend.codec, self.prompt)
            begin = min(begin, last)
        states = yield from ask(HiddenStates(read, begin, probe.layers))
        if begin < end:
            self._harmful = probe.harmful(states[:, : end - begin])
        self._asked = self.prompt
        return states[:, last - begin :]

    def _sentences(self, tokens: Tokens) -> tuple[int, ...]:
        """After how many of an answer's tokens a sentence begins."""
        decode = self.evaluator.backend.codec.decode
        ends = (
            number
            for number, token in enumerate(tokens, 1)
            if decode((token,)).rstrip(" ").endswith(tuple(SENTENCE_ENDINGS))
        )
        return (0, *ends)

    def _judgement(self, answer: str, states: np.ndarray, begins: tuple[int, ...]) -> Judgement:
        probe = self.evaluator.probe
        good = probe.probability(states, self._harmful)
        course = tuple(float(score) for score in probe.scores(states, self._harmful))
        return Judgement(
            course[-1],
            answer,
            probabilities=((good, 1 - good),),
            course=course,
            sentences=begins,
            harmful=self._harmful,
        )

    def _tokens(self, answer: str) -> Tokens:
        return self.prompt.tokens + answer_tokens(self.evaluator.backend.codec, self.prompt, answer)

    def held(self, answer: str) -> list[Tokens]:
        """Nothing but the text itself, which generation holds."""
        return []


class ReadAlongJudge(ReadingJudge):
    """Reads another model's text as a conversation of its own, and keeps what it has read of it."""

    free = False

    @property
    def prompt(self) -> Prompt:
        return self._own

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        form: PromptFormat = "text" if prompt.format == "text" else "auto"
        self._own = build_prompt(prompt.messages, self.evaluator.backend, prompt_format=form)

    def held(self, answer: str) -> list[Tokens]:
        """The whole conversation on the reading model."""
        return [self._tokens(answer)]
