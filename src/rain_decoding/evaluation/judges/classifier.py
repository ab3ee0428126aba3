"""Classifiers of transformers as judges: `hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]`.

A sequence-classification model is read as the search's judge reads it (see `self_evaluation.classifier`, whose options
hold here, too). With the option `form` it is a language model that was trained to say one of two words behind a text
of a fixed form (see `forms`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain_decoding.backends import load_backend
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.control_text import neutralised, without_control_tokens
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.evaluation.judges.base import Label, read_label
from rain_decoding.evaluation.judges.forms import ENDING, FORMS, Form, read_form
from rain_decoding.evaluation.judges.llm import QUESTIONS
from rain_decoding.evaluation.provenance import file_hash, weights_hash
from rain_decoding.evaluation.suites.base import Item
from rain_decoding.programs import ask
from rain_decoding.prompting import Prompt
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.classifier import BAD, BETWEEN, GOOD, load_classifier
from rain_decoding.self_evaluation.evaluator import Judging, find_label_tokens
from rain_decoding.self_evaluation.loading import ASK
from rain_decoding.types import Judgement, LabelProbabilities, Message, Unanswered

SENTIMENT = {"positive", "pos", "negative", "neg"}
"""Labels that answer whether a text is positive; other labels of `GOOD` and `BAD` whether it is harmless."""
GUARDS = ("llama-guard", "qwen3-guard")
"""Forms that are criteria: the model's own chat template asks. They answer whether an answer is harmless."""
LEAST_MASS = 0.1
"""A language model whose words hold less probability than this together has said nothing: unscored."""
OPTIONS = ("question", "form")


class ClassifierJudge:
    """Answers one question by a model's labels. It reads one text at a time, whatever thread asks.

    Raises `InputError` where the labels do not say which question they answer, and what loading the model raises.
    """

    def __init__(self, name: str):
        self.name = self.source = name
        model, _, text = name.partition(":")[2].partition("#")
        given = dict(part.partition("=")[::2] for part in text.split("&") if part)
        own = {key: given.pop(key) for key in OPTIONS if key in given}
        self._reader = _reader(model, own.get("form"), "&".join(f"{k}={v}" for k, v in given.items()))
        question = own.get("question") or self._reader.question
        if question not in QUESTIONS:
            raise InputError(
                f"{name} does not say which question its labels answer",
                hint=f"use {name}{'&' if text else '#'}question=WORD, with one of {', '.join(QUESTIONS)}",
            )
        self.questions: tuple[str, ...] = (question,)
        weights = weights_hash(Path(model)) if Path(model).exists() else "hub"
        own_form = [file_hash(Path(own["form"]))] if own.get("form", "").endswith(ENDING) else []
        self.version = ", ".join([model, text, weights, *own_form])
        self._lock = threading.Lock()

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        (question,) = self.questions
        prompt = _prompt(item.prompt, question)
        return read_label(question, answer, self._lock, lambda: self._reader.read(prompt, answer))


def _prompt(text: str, question: str) -> Prompt:
    """The request; a sentiment is that of the whole text, the request continued by the answer."""
    continued = question == "positive"
    return Prompt(
        "text" if continued else "dialogue", (Message("user", text),), text, (), (), strip=not continued
    )


def _reader(model: str, form: str | None, options: str) -> Any:
    if form is None:
        return LabelReader(model, options)
    if options:
        raise InputError(f"form={form} does not accept the option {options}", hint="omit it")
    if form in GUARDS:
        return GuardReader(model, form)
    if form in FORMS:
        return FormReader(model, FORMS[form])
    if form.endswith(ENDING):
        return FormReader(model, read_form(Path(form)))
    raise InputError(
        f"form = {form!r}", hint=f"use one of {', '.join((*GUARDS, *FORMS))}, or a file NAME{ENDING}"
    )


class LabelReader:
    """Reads the labels of a sequence-classification model."""

    def __init__(self, model: str, options: str):
        self.evaluator = load_classifier(f"{model}#{options}" if options else model)
        names = {re.sub("[^a-z]", "", label.lower()) for label in self.evaluator.model.labels}
        known = (("positive", SENTIMENT | BETWEEN), ("harmless", GOOD | BAD | BETWEEN))
        self.question = next((question for question, labels in known if names <= labels), "")

    def read(self, prompt: Prompt, answer: str) -> Judgement:
        conversation = self.evaluator.conversation(prompt)
        scheduler = Scheduler.of(self.evaluator.model)
        return scheduler.complete(conversation.judge(answer), 0)


class GuardReader:
    """Reads what a guard model says in its own chat template."""

    question = "harmless"

    def __init__(self, model: str, criterion: str):
        config = SearchConfig.preset(DEFAULT_PRESET).with_changes(votes="soft", min_label_mass=LEAST_MASS)
        self.judge = RainDecoder(
            load_backend(f"hf:{model}"), criterion, config, prompt_format="dialogue", judge=ASK
        )

    def read(self, prompt: Prompt, answer: str) -> Judgement:
        return self.judge.judge(prompt.text, answer)


@dataclass
class FormReader:
    """Reads which of a form's words a model says behind its text."""

    model: str
    form: Form

    def __post_init__(self) -> None:
        self.backend = load_backend(f"hf:{self.model}")
        self.question = self.form.question
        words = (self.form.good, self.form.bad)
        self.labels = find_label_tokens(self.backend.codec, (self._render("a", "a"), True), words)

    def _render(self, prompt: str, answer: str) -> str:
        """The form filled in; what is filled in can pass for no other line of it."""
        special = self.backend.codec.control_texts_in([prompt, answer])
        filled = (neutralised(without_control_tokens(v, special), self.form.lines) for v in (prompt, answer))
        return self.form.fill(*filled)

    def read(self, prompt: Prompt, answer: str) -> Judgement:
        owner = self.backend.new_owner()
        try:
            return Scheduler.of(self.backend).complete(self._program(prompt.text, answer.strip()), owner)
        finally:
            self.backend.finish(owner)

    def _program(self, prompt: str, answer: str) -> Judging:
        text = self._render(prompt, answer)
        tokens = self.backend.codec.encode(text)
        forms = self.labels.forms
        request = LabelProbabilities(
            tokens[: len(tokens) - self.labels.dropped], tuple(token for form in forms for token in form)
        )
        found = yield from ask(request)
        assert not isinstance(found, Unanswered), "a model in this process answers"
        good, bad = float(sum(found[: len(forms[0])])), float(sum(found[len(forms[0]) :]))
        if good + bad < LEAST_MASS:
            return Judgement(
                None, text, problem=f"the form's words have a total probability of only {good + bad:.3f}"
            )
        return Judgement((good - bad) / (good + bad), text, ((good, bad),), (good + bad,))
