"""A reader as judge: `read:MODEL[#probe=FILE]`, a linear probe on the hidden states of a model that reads the answers.

The model should be another than the one that answered, and the probe fitted on other labels than the search's: then
its errors are its own. How often it errs stands in the probe, from answers that were held out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rain_decoding.backends import load_backend
from rain_decoding.errors import ConfigError
from rain_decoding.evaluation.judges.base import Accuracy, Label, read_label
from rain_decoding.evaluation.provenance import file_hash
from rain_decoding.evaluation.suites.base import Item
from rain_decoding.measurement.statistics import Estimate
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.self_evaluation.loading import PROBE
from rain_decoding.self_evaluation.reading.probe import Probe, load_probe
from rain_decoding.self_evaluation.reading.reader import Reader
from rain_decoding.types import Judgement

QUESTIONS = {
    "harmlessness": "harmless",
    "harmlessness-command": "harmless",
    "helpfulness": "helpful",
    "truthfulness": "truthful",
    "positive-sentiment": "positive",
}
"""Which question a probe of a criterion answers."""
DEFAULT = "harmlessness"
"""What is read for where no probe is given: one is fitted on the examples of this criterion."""


class ReadingLabels:
    """Answers one question by a probe. It reads one text at a time, whatever thread asks.

    It is shown the request without an attack's additions, where the suite knows it.

    Raises `ConfigError` for a probe of another criterion than those of `QUESTIONS`, or of another model, and what
    loading the model raises.
    """

    def __init__(self, name: str):
        self.name = name
        self.source, _, file = name.partition(":")[2].partition(PROBE)
        probe = load_probe(file) if file else None
        criterion = probe.criterion_name if probe else DEFAULT
        if criterion not in QUESTIONS:
            raise ConfigError(
                f"{name}: the probe is of the criterion {criterion!r}",
                hint=f"use one of {', '.join(QUESTIONS)}",
            )
        self.questions: tuple[str, ...] = (QUESTIONS[criterion],)
        self.backend = load_backend(self.source)
        self._format: PromptFormat = "text" if self.questions == ("positive",) else "auto"
        reader = Reader(self.backend, file=Path(file) if file else None, prompt_format=self._format)
        self._evaluator = reader.evaluator(load_criterion(criterion))
        self.accuracy = probe_accuracy(self._evaluator.probe, self.questions[0])
        fitted = file_hash(Path(file)) if file else self._evaluator.probe.examples
        self.version = f"{self.backend.fingerprint}, {fitted}"
        self._lock = threading.Lock()

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        (question,) = self.questions
        prompt = item.facts.get("goal", item.prompt)
        return read_label(question, answer, self._lock, lambda: self._judge(prompt, answer))

    def _judge(self, prompt: str, answer: str) -> Judgement:
        built = build_prompt(prompt, self.backend, prompt_format=self._format)
        conversation, owner = self._evaluator.conversation(built), self.backend.new_owner()
        try:
            return Scheduler.of(self.backend).complete(conversation.judge(answer), owner)
        finally:
            self.backend.finish(owner)


def probe_accuracy(probe: Probe, question: str) -> Mapping[str, Accuracy]:
    """How often a probe's verdicts were right on held-out answers; nothing for a probe that does not say."""
    figures = probe.figures
    if "good_right" not in figures or "bad_right" not in figures:
        return {}
    kept, found = Estimate(**figures["good_right"]), Estimate(**figures["bad_right"])
    return {question: Accuracy(kept, found)}
