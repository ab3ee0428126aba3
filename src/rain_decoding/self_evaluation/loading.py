"""From what a caller names to an evaluator."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rain_decoding.backends import BACKENDS, load_backend
from rain_decoding.backends.base import Backend, Closing
from rain_decoding.errors import ConfigError, MissingDependencyError
from rain_decoding.extras import install
from rain_decoding.plugins import Entry, Forms
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.combination import Combined, Part
from rain_decoding.self_evaluation.combination_syntax import Expression, Named, parse
from rain_decoding.self_evaluation.criterion import CRITERIA, Criterion, load_criterion, principle_criterion
from rain_decoding.self_evaluation.elsewhere import ElsewhereEvaluator
from rain_decoding.self_evaluation.evaluator import BOTH_ORDERS, Evaluator, SelfEvaluator, Votes
from rain_decoding.self_evaluation.reading.reader import Reader, Told, is_brought, logged, why_not_read
from rain_decoding.self_evaluation.self_check import check, is_checked

if TYPE_CHECKING:
    from rain_decoding.backends.decisions import DecisionServer

PRINCIPLE = "principle:"
"""What a criterion in one sentence begins with."""


def _classifier(name: str) -> Evaluator:
    from rain_decoding.self_evaluation.classifier import load_classifier

    return load_classifier(name)


EVALUATORS: Forms[Evaluator] = Forms(
    "rain_decoding.evaluators",
    "judge",
    [
        Entry(
            "hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]",
            _classifier,
            "a sequence classifier",
            extra="hf",
        )
    ],
    unknown=ConfigError,
)
"""What judges by labels of its own and not by a criterion. All have something behind the colon."""


def has_labels(name: str) -> bool:
    """Whether a judge of this name is one of `EVALUATORS`, and not a backend or a criterion."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in EVALUATORS


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """Who judges by a criterion: the model itself or that of `asked`, which is asked about it, a `reader`, or a
    `server` of decisions.

    With `choose` the reader judges by the criteria for which it surely beats a coin, and the others are asked. `behind`
    the reader stands who judges what it is unsure of, if anybody: such a choice, or a name for `EVALUATORS`.
    """

    asked: Backend | None = None
    reader: Reader | None = None
    choose: bool = False
    behind: JudgeChoice | str | None = None
    server: DecisionServer | None = None

    @property
    def others(self) -> tuple[Closing, ...]:
        """What judges beside the model that generates, behind the reader included."""
        reading = self.reader.backend if self.reader is not None and self.reader.along else None
        behind = self.behind.others if isinstance(self.behind, JudgeChoice) else ()
        return (*(each for each in (self.asked, reading, self.server) if each is not None), *behind)

    @property
    def independent(self) -> bool:
        """Whether another model judges, whoever generates: then it may judge for several."""
        elsewhere = self.asked is not None or (self.reader is not None and self.reader.along)
        return elsewhere and not (isinstance(self.behind, JudgeChoice) and not self.behind.independent)


DECISIONS = ("systemone:", "decisions:")
ASK, READ, AUTO = "ask", "read", "auto"
JUDGE_FORMS = (
    f"{ASK}, {READ}[:MODEL][#probe=FILE][+JUDGE], {AUTO}, {EVALUATORS.own_forms}, "
    f"{', '.join(f'{form}URL#MODEL' for form in DECISIONS)}, or another model"
)
PROBE = "#probe="
READS = re.compile(rf"{READ}(?=[:#+]|$)")
BEHIND = re.compile(r"\+(?=[\w-]+(:|$))")
"""Where the judge behind a reading one begins, if what follows is one: names of files may hold a plus."""


def choose_judge(
    judge: str | Backend | JudgeChoice | None,
    backend: Backend,
    *,
    prompt_format: PromptFormat = "auto",
    told: Told = logged,
) -> JudgeChoice:
    """Who judges what the model of `backend` generates.

    Args:
        judge: "ask" (as None): the model is asked about its text; "read": a probe reads its hidden states;
            "read:MODEL": that model reads along; "#probe=FILE" behind either: by a saved probe; "+JUDGE" behind all
            that ("read+ask"): what the reading is unsure of is judged by that one, which is "ask", another model or one
            of `EVALUATORS`; "auto": read where that can be had and beats a coin, else asked; "systemone:URL#MODEL" and
            "decisions:URL#MODEL": a server that answers questions with probabilities; or another model that is asked,
            or its name.
        prompt_format: as conversations are generated.
        told: hears of the progress where a probe has to be fitted.

    Raises:
        ConfigError: there is no such judge, or the file is not a probe.
        BackendError: the model that judges cannot be loaded.
    """
    if isinstance(judge, JudgeChoice):
        return judge
    if judge is None or judge == ASK:
        return JudgeChoice(server=_server_of(backend))
    if judge == AUTO:
        reader = Reader(backend, prompt_format=prompt_format, told=told)
        return JudgeChoice(reader=reader, choose=True, server=_server_of(backend))
    if not isinstance(judge, str):
        return JudgeChoice(judge, server=_server_of(judge))
    if judge.startswith(DECISIONS):
        return JudgeChoice(server=_decision_server(judge))
    if not READS.match(judge):
        other = load_backend(judge)
        return JudgeChoice(other, server=_server_of(other))
    form = _reading_form(judge)
    probe = Path(form.probe) if form.probe else None
    if not form.model:
        reader = Reader(backend, file=probe, prompt_format=prompt_format, told=told)
    else:
        reader = Reader(load_backend(form.model), along=True, file=probe, told=told)
    behind: JudgeChoice | str | None = form.behind or None
    if form.behind and not has_labels(form.behind):
        behind = choose_judge(form.behind, backend)
    return JudgeChoice(reader=reader, behind=behind)


def judges_by_name(judge: str | None, model: str) -> list[str]:
    """Who judges what `model` generates: its own name, that of another model, or of a judge with labels of its own.

    `judge` is as for `choose_judge`; nothing is loaded. Raises `ConfigError` where it has no known form.
    """
    if judge is None or judge in (ASK, AUTO):
        return [model]
    if not READS.match(judge):
        return [judge]
    form = _reading_form(judge)
    return [form.model or model, *(judges_by_name(form.behind, model) if form.behind else ())]


class _ReadingForm(NamedTuple):
    """A reading judge's name in parts: the model that reads along, the probe's file, and the judge behind it, each
    empty where there is none."""

    model: str
    probe: str
    behind: str


def _reading_form(judge: str) -> _ReadingForm:
    """The parts of a reading judge's name. Raises `ConfigError` where it is of another form."""
    reading, behind = _split_behind(judge)
    name, _, probe = reading.partition(PROBE)
    kind, _, model = name.partition(":")
    if kind != READ:
        raise ConfigError(f"unknown judge {judge!r}", hint=f"forms: {JUDGE_FORMS}")
    return _ReadingForm(model, probe, behind)


def _split_behind(judge: str) -> tuple[str, str]:
    """The judge that reads, and the one behind it; empty where there is none."""
    for found in BEHIND.finditer(judge):
        name = judge[found.end() :]
        if (
            name == ASK
            or has_labels(name)
            or name.partition(":")[0] in BACKENDS
            or name.startswith(DECISIONS)
        ):
            return judge[: found.start()], name
    return judge, ""


def _server_of(backend: Backend) -> DecisionServer | None:
    """Who answers questions with probabilities in its place, where its own labels could only be counted."""
    return _decision_server(name) if (name := backend.capabilities.decisions) else None


def _decision_server(name: str) -> DecisionServer:
    try:
        from rain_decoding.backends.decisions import load_decision_server
    except ImportError as error:
        raise MissingDependencyError(
            f"judges behind HTTP need {error.name}", hint=install("endpoint")
        ) from error
    return load_decision_server(name)


def load_evaluator(
    backend: Backend,
    criterion: str | Criterion | Evaluator,
    *,
    votes: Votes = "hard",
    min_label_mass: float = 0.0,
    order_margin: float = BOTH_ORDERS,
    cheapest: bool = False,
    judge: Backend | JudgeChoice | None = None,
    pinned: bool = True,
    read_surely: float = 1.0,
) -> Evaluator:
    """The evaluator for a criterion, given as such, by name or file, or as a combination of names.

    The model of `backend` is asked about its own text, or who else is the `judge`. `cheapest`: see
    `SearchConfig.placement`; `read_surely`: see `Cascade`; `pinned`: see `SelfEvaluator`. Another `Evaluator` stays
    what it is. Raises `CriterionError` for what cannot be read or found, and what loading a classifier or a probe
    raises.
    """
    chosen = choose_judge(judge, backend)
    loader = _Loader(backend, chosen, votes, min_label_mass, order_margin, cheapest, pinned, read_surely)
    if isinstance(criterion, str):
        return loader.named(criterion)
    return loader.criterion(criterion) if isinstance(criterion, Criterion) else criterion


@dataclass(frozen=True)
class _Loader:
    backend: Backend
    chosen: JudgeChoice
    votes: Votes
    min_label_mass: float
    order_margin: float
    cheapest: bool
    pinned: bool
    read_surely: float

    @property
    def judge(self) -> Backend:
        """The model that is asked."""
        return self.chosen.asked or self.backend

    def named(self, text: str) -> Evaluator:
        """What a text names."""
        return self._build(parse(text)) if may_be_combination(text) else self._one(text)

    def _build(self, parsed: Named | Expression) -> Evaluator:
        if isinstance(parsed, Named):
            return self._one(parsed.text)
        parts = [
            Part(self._build(term.of), term.weight, term.threshold, term.of.text) for term in parsed.terms
        ]
        return Combined(parsed.rule, parts, parsed.text)

    def _one(self, name: str) -> Evaluator:
        if has_labels(name):
            entry, rest = EVALUATORS.find(name)
            return entry.load(rest)
        return self.criterion(find_criterion(name, self.judge))

    def criterion(self, criterion: Criterion) -> Evaluator:
        reader, reason = self.chosen.reader, ""
        if reader is not None and self.chosen.choose:
            reason = why_not_read(reader, criterion)
        if reader is not None and not reason:
            read = reader.evaluator(criterion)
            return self._cascade(ElsewhereEvaluator(read) if reader.along else read, criterion)
        return self._asked(criterion, reason)

    def _cascade(self, reading: Evaluator, criterion: Criterion) -> Evaluator:
        """The reading judge, with who stands behind it."""
        behind = self.chosen.behind
        if behind is None:
            return reading
        if isinstance(behind, str):
            return Cascade(reading, self._one(behind), self.read_surely)
        asked = replace(self, chosen=replace(behind, choose=True))._asked(criterion)
        if doubt := getattr(asked, "doubt", ""):
            warnings.warn(
                f"{doubt}, which decides what the reading is unsure of; use the judge 'read'", stacklevel=2
            )
        return Cascade(reading, asked, self.read_surely)

    def _asked(self, criterion: Criterion, reason: str = "") -> Evaluator:
        if self.chosen.server is not None:
            from rain_decoding.self_evaluation.deciding import DecidingEvaluator

            return DecidingEvaluator(self.chosen.server, criterion, self.votes, self.min_label_mass)
        if self.cheapest and criterion.suffix_as_good and self.judge is self.backend:
            criterion = replace(criterion, placement="suffix")
        own = SelfEvaluator(
            self.judge,
            criterion,
            votes=self.votes,
            min_label_mass=self.min_label_mass,
            order_margin=self.order_margin,
            pinned=self.pinned,
        )
        own.remarks = [f"since {reason}"] if reason else []
        if self.chosen.choose and is_checked(self.judge, criterion):
            found = check(own)
            own.doubt = found.doubt(own)
            own.proven = bool(found.of) and not own.doubt
            own.remarks += [f"right about {found.right} of {found.of} examples"] if found.of else []
        own.proven |= is_brought(self.judge, criterion)
        return own if self.judge is self.backend else ElsewhereEvaluator(own)


def is_proven(evaluator: Evaluator) -> bool:
    """Whether a judge was found to beat a coin: not so one that is asked by a criterion that nobody tried."""
    match evaluator:
        case Combined():
            return all(is_proven(part.evaluator) for part in evaluator.parts)
        case ElsewhereEvaluator():
            return is_proven(evaluator.evaluator)
    return getattr(evaluator, "proven", True)


def find_criterion(name: str, model: Backend) -> Criterion:
    """The criterion of a name, a file, or a sentence behind `PRINCIPLE`, as the model brings it or else as we do.

    Raises `CriterionError` where it is broken or there is none.
    """
    folders = model.criteria_dirs
    if name.startswith(PRINCIPLE):
        return principle_criterion(name.removeprefix(PRINCIPLE), search_dirs=folders)
    return load_criterion(name, search_dirs=folders)


def check_names(text: str, places: Iterable[Path] = ()) -> None:
    """Raise `CriterionError` for a name in a text that neither we nor these places have; nothing is loaded."""
    parsed = parse(text) if may_be_combination(text) else Named(text)
    for name in _names(parsed):
        if not (name in CRITERIA or name.startswith(PRINCIPLE) or has_labels(name)):
            load_criterion(name, search_dirs=places)


def _names(parsed: Named | Expression) -> Iterator[str]:
    if isinstance(parsed, Named):
        yield parsed.text
    else:
        for term in parsed.terms:
            yield from _names(term.of)


def may_be_combination(text: str) -> bool:
    """Whether a text is not a sentence or a file's name, which may hold what looks like a combination."""
    return not (text.startswith(PRINCIPLE) or _is_file(text))


def is_combination(text: str) -> bool:
    """Whether a text combines several criteria. Raises `CriterionError` where it is a broken combination."""
    return may_be_combination(text) and isinstance(parse(text), Expression)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False
