"""From a criterion to a probe of it for a model: one that is given, kept from before, or fitted now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rain_decoding.backends.base import Backend
from rain_decoding.errors import CriterionError
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion, brought_criteria
from rain_decoding.self_evaluation.reading.attacked import wary_examples
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_hash, examples_of
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.reading.made import made_examples
from rain_decoding.self_evaluation.reading.probe import Probe, load_probe
from rain_decoding.self_evaluation.reading.states import BRIEF, LONGEST
from rain_decoding.self_evaluation.reading.store import kept_probe, probe_file

logger = logging.getLogger(__name__)

Told = Callable[[int, int], object]
"""Hears how many examples of how many were read."""


ENOUGH = 160
"""Examples of a criterion that a probe is fitted on where nobody asked for more: with all there are it is a little
better, and the first answer comes much later (docs/results/reading.md)."""


MADE_LEAST = 20
"""Examples of each label that a model must make of a principle for a probe."""
MADE_APART = 0.6
"""The lower end of the interval of their AUC below which a model cannot do as the principle says, or the contrary."""
NO_EXAMPLES = "use the judge 'ask', or fit a probe on answers of your own: rain calibrate --data FILE"

FALSE_ALARMS = 0.05
"""Share of held-out good answers that such a probe may call bad: a false alarm costs a search and changes good text."""


def logged(done: int, of: int) -> None:
    """Say once why a decoder is not ready yet."""
    if done == 1:
        logger.warning(
            "fitting a probe on %d examples, which is kept for the next time; the judge 'ask' needs none", of
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads with the model of `backend`: its own text, or `along` with another model.

    `file` is a saved probe; without one, a probe is fitted on the examples of each criterion and kept. `told` hears of
    the progress of that.
    """

    backend: Backend
    along: bool = False
    file: Path | None = None
    prompt_format: PromptFormat = "auto"
    told: Told = logged

    def evaluator(self, criterion: Criterion) -> ReadingEvaluator:
        """A judge by the criterion.

        For a criterion without examples, the model makes some itself.

        Raises:
            CriterionError: the criterion has no examples, no probe is given, and the model makes none that it can tell
                apart.
            ConfigError: the saved probe is of another model or criterion.
            UnsupportedError: the backend gives no hidden states of the layer.
        """
        return ReadingEvaluator(
            self.backend,
            self.probe(criterion),
            f"{criterion.name} (read)",
            along=self.along,
            guidance=criterion.guidance,
        )

    def probe(self, criterion: Criterion) -> Probe:
        """The probe for a criterion. Raises as `evaluator`."""
        if self.file is not None:
            probe = load_probe(self.file)
            probe.check(
                model=self.backend.fingerprint,
                model_name=self.backend.name,
                criterion_name=criterion.name,
                layers=self.backend.capabilities.layers,
            )
            return probe
        if own := built_in(criterion):
            return fitted_probe(
                self.backend,
                own[:ENOUGH],
                criterion.name,
                longest=BRIEF,
                prompt_format=self.prompt_format,
                told=self.told,
                wary=own if len(own) > ENOUGH else (),
            )
        return self._of_made(criterion)

    def _of_made(self, criterion: Criterion) -> Probe:
        """A probe of examples that the model makes itself, if it tells them apart; kept as one of given examples."""
        principle = criterion.statements[0] if criterion.statements else ""
        file = probe_file(self.backend.fingerprint, f"made: {principle}", self.prompt_format, FALSE_ALARMS)

        def fit() -> Probe:
            made = (
                made_examples(self.backend, principle, prompt_format=self.prompt_format) if principle else ()
            )
            examples = list(made)
            if min(sum(each.good for each in examples), sum(not each.good for each in examples)) < MADE_LEAST:
                raise CriterionError(
                    f"the criterion {criterion.name!r} has no examples to read by", hint=NO_EXAMPLES
                )
            return fitted_probe(
                self.backend, examples, criterion.name, prompt_format=self.prompt_format, told=self.told
            )

        probe = kept_probe(file, fit)
        if probe.figures["auc"]["low"] < MADE_APART:
            raise CriterionError(
                f"{self.backend.name} does not tell its own good and bad answers by {criterion.name!r} apart "
                f"(AUC {probe.figures['auc']['value']:.2f})",
                hint=NO_EXAMPLES,
            )
        return probe


def built_in(criterion: Criterion) -> list[ReadingExample]:
    """What a probe learns from without anybody's answers: `ENOUGH` examples, and behind them those of a wary line."""
    every = examples_of(criterion)
    return wary_examples(every, ENOUGH) or every[:ENOUGH]


def fitted_probe(
    backend: Backend,
    examples: Sequence[ReadingExample],
    criterion: str,
    *,
    longest: int = LONGEST,
    prompt_format: PromptFormat = "auto",
    told: Told = logged,
    wary: Sequence[ReadingExample] = (),
) -> Probe:
    """The probe of this model and these examples: as it was kept, or else fitted now and kept.

    `longest`, `wary`: see `learn`.
    """
    file = probe_file(
        backend.fingerprint, examples_hash(wary or examples), prompt_format, FALSE_ALARMS, longest
    )
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        told(done, len(wary or examples))

    def fit() -> Probe:
        from rain_decoding.self_evaluation.reading.learning import learn  # it brings scikit-learn

        return learn(
            backend,
            examples,
            criterion,
            false_alarms=FALSE_ALARMS,
            longest=longest,
            prompt_format=prompt_format,
            told=count,
            wary=wary,
        )

    return kept_probe(file, fit)


BEATS_A_COIN = 0.6
"""The lower end of the interval of a probe's balanced accuracy on held-out examples from which it is preferred."""


def is_brought(backend: Backend, criterion: Criterion) -> bool:
    """Whether the model itself brings the criterion: it was made to be asked by it."""
    return criterion.name in brought_criteria(backend.criteria_dirs)


def why_not_read(reader: Reader, criterion: Criterion) -> str:
    """Why asking is to be preferred for this criterion; empty where reading can be had and surely beats a coin."""
    if is_brought(reader.backend, criterion):
        return "it brings the criterion"
    if criterion.reading_file is None:
        return "the criterion has no examples to read by"
    if not reader.backend.capabilities.layers:
        return "it gives no hidden states to read"
    accuracy = reader.probe(criterion).figures["balanced_accuracy"]
    beats = accuracy and accuracy["low"] > BEATS_A_COIN
    return "" if beats else "reading it is not surely better than a coin"
