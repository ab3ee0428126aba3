"""What a calibration found, and how a decoder takes it over from a file. Light: a decoder imports this."""

from __future__ import annotations

import hashlib
import json
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rain_decoding.backends.base import Backend
from rain_decoding.config import SearchConfig
from rain_decoding.errors import ConfigError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator, Votes
from rain_decoding.self_evaluation.loading import PRINCIPLE, find_criterion, is_combination
from rain_decoding.self_evaluation.question_forms import in_form, question_forms
from rain_decoding.version import __version__

FORMAT = 2
"""Version of the file's form."""

Verdict = Literal["better", "chance", "undecided"]
"""Whether the judge beats a coin: shown, refuted (as far as that matters), or neither."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How to let this model judge by this criterion.

    `accept_value`, `votes` and `min_label_mass` as in `SearchConfig`, `form` of the question as in `question_forms`.
    `order_margin`: what `SearchConfig.order_margin` may be; None for a criterion that is asked in one order.
    `reasons` says why, by name of the value.
    """

    form: str
    votes: Votes
    accept_value: float
    min_label_mass: float
    order_margin: float | None
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well a model judges by a criterion, and what follows from it.

    `figures` are those of `calibration.figures.form_figures`, by form; `counts` says what was
    judged; `source` where the answers came from; labels that hold less than `min_label_mass` counted as unscored.
    `reason` has the figures behind the verdict.
    """

    model: str
    criterion: str
    criterion_hash: str
    source: str
    seed: int
    min_label_mass: float
    counts: Mapping[str, int]
    figures: Mapping[str, Any]
    recommendation: Recommendation
    verdict: Verdict
    reason: str
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, **asdict(self)}

    def save(self, path: Path) -> None:
        """Write a file that `SearchConfig.calibration` may name."""
        path.write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def in_use(self) -> dict[str, Any]:
        """What a decoder takes over."""
        names = ("form", "votes", "accept_value", "min_label_mass")
        return {name: getattr(self.recommendation, name) for name in names}

    def applied(self, config: SearchConfig) -> SearchConfig:
        """The configuration with the recommended values in place of its own."""
        values = self.in_use()
        del values["form"]
        return config.with_changes(**values)

    def asked(self, backend: Backend, judge: str | Criterion | Evaluator) -> Criterion:
        """The criterion in the form that is recommended.

        Raises `ConfigError` where this is about another model, criterion or judge: its thresholds hold for no other.
        """
        again = "run rain calibrate for this model and criterion, or leave the calibration out"
        if backend.name != self.model:
            raise ConfigError(
                f"the calibration is for the model {self.model}, not {backend.name}", hint=again
            )
        if isinstance(judge, str) and is_combination(judge):
            raise ConfigError(
                f"the calibration is for the criterion {self.criterion!r}, not for the combination {judge}",
                hint="leave the calibration out",
            )
        criterion = find_criterion(judge, backend) if isinstance(judge, str) else judge
        if not isinstance(criterion, Criterion):
            raise ConfigError(
                f"the calibration is for self-evaluation, not for the judge {criterion.name}",
                hint="leave the calibration out",
            )
        if criterion_hash(criterion) != self.criterion_hash:
            if criterion.name == self.criterion:
                other = " as it was then"
            else:
                other, again = f", not {criterion.name!r}", f"judge by {_option(self.criterion)}; or {again}"
            raise ConfigError(f"the calibration is for the criterion {self.criterion!r}{other}", hint=again)
        if self.verdict != "better":
            warnings.warn(
                f"the calibration found self-evaluation {self.verdict}: {self.reason}", stacklevel=3
            )
        return in_form(criterion, self.recommendation.form, backend.codec)


def _option(criterion: str) -> str:
    """What asks for a criterion of this name on the command line."""
    if criterion.startswith(PRINCIPLE):
        return f"--principle {shlex.quote(criterion.removeprefix(PRINCIPLE).strip())}"
    return f"--criterion {criterion}"


def criterion_hash(criterion: Criterion) -> str:
    """SHA-256 of all that a criterion asks, in whatever form."""
    content = json.dumps(asdict(replace(criterion, placement="prefix", reading_file=None)), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def load_calibration(path: str | Path) -> Calibration:
    """Read what `Calibration.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        ConfigError: The file cannot be read, or is not a calibration.
    """
    hint = "write one with rain calibrate --save FILE"
    try:
        data = json.loads(read_text(path))
    except (*UNREADABLE, ValueError) as error:
        raise ConfigError(f"{path} is not a calibration: {error}", hint=hint) from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ConfigError(f"{path} is not a calibration of format {FORMAT}", hint=hint)
    try:
        if data["recommendation"]["form"] not in question_forms():
            raise ValueError(f"form = {data['recommendation']['form']!r}")
        return Calibration(**{**data, "recommendation": Recommendation(**data["recommendation"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not a complete calibration: {error}", hint=hint) from error
