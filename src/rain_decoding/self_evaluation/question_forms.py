"""Forms of the question: one criterion, asked about in other words and in other places."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from rain_decoding.backends.base import Codec
from rain_decoding.errors import ConfigError, CriterionError
from rain_decoding.self_evaluation.criterion import Criterion, Placement
from rain_decoding.self_evaluation.evaluator import find_label_tokens
from rain_decoding.self_evaluation.rendering import Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionForm:
    """How a criterion is asked about. What is None is the criterion's own."""

    summary: str
    placement: Placement
    examples: bool = True
    system: bool = False
    instruction: str | None = None
    question: str | None = None
    leads: Sequence[str] = ()
    labels: Sequence[Sequence[str]] | None = None

    def variants(self, criterion: Criterion) -> list[Criterion]:
        """The criterion in this form, with each of its leads. A question of two options has two statements only."""
        asked = replace(
            criterion,
            placement=self.placement,
            system=self.system,
            instruction=criterion.instruction if self.instruction is None else self.instruction,
            question=criterion.question if self.question is None else self.question,
            labels=criterion.labels if self.labels is None else tuple(map(tuple, self.labels)),
            statements=criterion.statements if self.labels is None else criterion.statements[:2],
            both_orders=criterion.both_orders or self.question is not None,
        )
        if not self.examples:
            asked = replace(asked, examples=(), prefix=None)
        if (
            self.labels is not None
        ):  # few-shot text from elsewhere, and neutral examples, are of another question
            kept = tuple(example for example in asked.examples if example.verdict != "neutral")
            asked = replace(asked, examples=kept, prefix=None)
        return [replace(asked, lead=lead) for lead in self.leads or (criterion.lead,)]


@cache
def question_forms() -> dict[str, QuestionForm]:
    """All forms by name."""
    text = (resources.files("rain_decoding") / "self_evaluation" / "question_forms.toml").read_text("utf-8")
    return {name: QuestionForm(**table) for name, table in tomllib.loads(text).items()}


USUAL = ("prefix", "suffix", "yes-no", "yes-no-suffix")


def usual_forms(criterion: Criterion, codec: Codec) -> list[str]:
    """The forms to try where none are named, as far as the vocabulary has tokens for their labels."""

    def fits(name: str) -> bool:
        try:
            in_form(criterion, name, codec)
        except CriterionError:
            return False
        return True

    return [name for name in USUAL if fits(name)]


def in_form(criterion: Criterion, name: str, codec: Codec) -> Criterion:
    """The criterion as the form `name` asks about it, with a lead that fits the vocabulary.

    Raises:
        ConfigError: there is no such form.
        CriterionError: a judge's own chat template asks the question, or no lead fits.
    """
    forms = question_forms()
    if name not in forms:
        raise ConfigError(f"there is no form of question {name!r}", hint=f"use one of {', '.join(forms)}")
    if criterion.placement == "template":
        raise CriterionError(
            f"{criterion.name} is asked by its model's own chat template", hint="leave the form out"
        )
    *others, last = forms[name].variants(criterion)
    for asked in others:
        try:
            find_label_tokens(codec, Renderer(asked, codec).sample("a", "a"), asked.labels)
        except CriterionError:
            continue
        return asked
    find_label_tokens(codec, Renderer(last, codec).sample("a", "a"), last.labels)
    return last
