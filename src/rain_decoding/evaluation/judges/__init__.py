"""Judges of answers, and the registry that finds one by its name."""

from __future__ import annotations

from functools import partial

from rain_decoding.errors import InputError
from rain_decoding.evaluation.judges.base import (
    Accuracy,
    Judge,
    Label,
    PairJudge,
    Preference,
    accuracy_of,
)
from rain_decoding.evaluation.judges.cache import ReplyCache
from rain_decoding.evaluation.judges.degeneration import DegenerationJudge
from rain_decoding.evaluation.judges.llm import LlmJudge
from rain_decoding.evaluation.judges.oracle import OracleJudge
from rain_decoding.evaluation.judges.refusal import LISTS, RefusalJudge
from rain_decoding.plugins import Entry, Forms


def _oracle(_: str, cache: ReplyCache) -> Judge:
    return OracleJudge()


def _refusal(which: str, _: str, cache: ReplyCache) -> Judge:
    return RefusalJudge(which)


def _degeneration(_: str, cache: ReplyCache) -> Judge:
    return DegenerationJudge()


def _reading(rest: str, cache: ReplyCache) -> Judge:
    from rain_decoding.evaluation.judges.reading import ReadingLabels

    return ReadingLabels(f"read:{rest}")


def _words(rest: str, cache: ReplyCache) -> Judge:
    from rain_decoding.evaluation.judges.words import WordsJudge

    return WordsJudge(f"words:{rest}")


def _llm(rest: str, cache: ReplyCache) -> Judge:
    return LlmJudge(f"llm:{rest}", cache)


def _classifier(rest: str, cache: ReplyCache) -> Judge:
    from rain_decoding.evaluation.judges.classifier import ClassifierJudge

    return ClassifierJudge(f"hf-classifier:{rest}")


JUDGES: Forms[Judge] = Forms(
    "rain_decoding.judges",
    "judge",
    [
        Entry("oracle", _oracle, "the demo world's oracle"),
        *(
            Entry(f"refusal-prefixes-{which}", partial(_refusal, which), "how refusals begin")
            for which in LISTS
        ),
        Entry("degeneration", _degeneration, "empty or repetitive answers, and those in another script"),
        Entry(
            "read:MODEL[#probe=FILE]", _reading, "a probe on the hidden states of a model that reads along"
        ),
        Entry("words:FILE", _words, "a classifier of words, fitted on labelled reviews"),
        Entry("llm:BASE_URL#MODEL", _llm, "a language model behind an endpoint", extra="eval"),
        Entry("hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]", _classifier, "a classifier", extra="eval"),
    ],
    unknown=InputError,
)
"""A loader also takes the `ReplyCache` of the run."""


def load_judge(name: str, cache: ReplyCache) -> Judge:
    """The judge called `name`, of a form in `JUDGES`. Raises `InputError` for another name."""
    entry, rest = JUDGES.find(name)
    return entry.load(rest, cache)


__all__ = [
    "JUDGES",
    "Accuracy",
    "Judge",
    "Label",
    "PairJudge",
    "Preference",
    "ReplyCache",
    "accuracy_of",
    "load_judge",
]
