"""Judging by a probe: the states of the answer's tokens are there already, so a judgement costs nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.reading.states import answer_tokens
from rain_decoding.types import HiddenStates, Judgement, Tokens


class ReadingEvaluator:
    """Judges answers by what a probe reads in the hidden states of a model, which must be the probe's."""

    free = True
    """A judgement of text that the model itself has generated costs no forward."""

    def __init__(self, backend: Backend, probe: Probe, name: str):
        """Has the backend keep the states of the probe's layer. Raises `UnsupportedError` where it cannot."""
        backend.keep_layers([probe.layer])
        self.backend, self.probe, self.name = backend, probe, name

    def conversation(self, prompt: Prompt) -> ReadingJudge:
        """A judge for answers to one prompt."""
        return ReadingJudge(self, prompt)


class ReadingJudge(ConversationEvaluator):
    """Judges answers to one prompt, and no tokens twice.

    The last token of an answer is not read: nothing has been forwarded behind it yet, and of an end of sequence
    nothing ever is. An answer of one token is read all the same.
    """

    def __init__(self, evaluator: ReadingEvaluator, prompt: Prompt):
        self.evaluator, self.prompt = evaluator, prompt
        self.warnings: list[str] = []
        self._memo: dict[Tokens, Judgement] = {}

    def judge(self, answer: str, tokens: Tokens | None = None) -> Program[Judgement]:
        if tokens is None:
            tokens = self.prompt.tokens + answer_tokens(self.evaluator.backend.codec, self.prompt, answer)
        if tokens in self._memo:
            return replace(self._memo[tokens], remembered=True)
        start = len(self.prompt.tokens)
        read = tokens[: max(len(tokens) - 1, start + 1)]
        if len(read) == start:
            return Judgement(None, answer, problem="an empty answer has no states to read")
        probe = self.evaluator.probe
        (states,) = yield from ask(HiddenStates(read, start, (probe.layer,)))
        self._memo[tokens] = judgement = self._judgement(answer, states)
        return judgement

    def _judgement(self, answer: str, states: np.ndarray) -> Judgement:
        probe = self.evaluator.probe
        good = float(1 / (1 + np.exp(-probe.log_odds(states)[-1])))
        course = probe.scores(states)
        return Judgement(
            float(course[-1]), answer, probabilities=((good, 1 - good),), course=tuple(map(float, course))
        )

    def held(self, answer: str) -> list[Tokens]:
        """Nothing but the answer itself."""
        return []


class ReadAlongEvaluator:
    """Reads with another model than the one that generates: it forwards the text, and shares what it has read."""

    free = False

    def __init__(self, evaluator: ReadingEvaluator):
        self.evaluator = evaluator
        self.backend, self.name = evaluator.backend, evaluator.name

    def conversation(self, prompt: Prompt) -> ReadingJudge:
        """A judge for answers to one prompt, which it reads as its own model's conversation."""
        own = build_prompt(
            prompt.messages, self.backend, prompt_format="text" if prompt.format == "text" else "auto"
        )
        return ReadingJudge(self.evaluator, own)
