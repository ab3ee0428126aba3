"""A linear probe: what reading a model takes, as a small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rain_decoding.errors import ConfigError
from rain_decoding.self_evaluation.reading.pooling import POOLINGS
from rain_decoding.types import Array, Layer
from rain_decoding.version import __version__

FORMAT = "rain-probe-1"
REFIT = "fit one for this model and criterion: rain calibrate --save-probe FILE"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """Says of an answer's beginning how probable it is that it is good, from hidden states alone.

    The state behind token t of the answer, float `[width]`, is projected on `weights` `[width]`; the projections up to
    a token are pooled, which with `bias` gives its value v. Over n tokens, the log-odds that the answer is good are

        slope * n / (n + patience) * v + intercept

    in nats: the fewer tokens there are, the less they say. An answer counts as good where v is above `threshold`;
    on folds held out, `false_alarms` in [0, 1] of the good ones did not. `model` and `criterion` are fingerprints of
    what the probe holds for. `figures` says how well it did on answers that it was not fitted on, beside words.
    """

    model: str
    model_name: str
    criterion: str
    criterion_name: str
    layer: Layer
    pooling: str
    weights: np.ndarray
    bias: float
    patience: float
    slope: float
    intercept: float
    threshold: float
    false_alarms: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def log_odds(self, states: np.ndarray) -> Array:
        """Log-odds in nats, float64 `[tokens]`, that an answer which ends at each of the tokens is good.

        Args:
            states: hidden states of the probe's layer at the answer's tokens so far, `[tokens, width]`.
        """
        values, evidence = self._values(states)
        odds: Array = evidence * values + self.intercept
        return odds

    def scores(self, states: np.ndarray) -> Array:
        """Scores in [-1, 1] behind each token, float64 `[tokens]`: 0 at the threshold, and near 0 at first.

        Args:
            states: as for `log_odds`.
        """
        values, evidence = self._values(states)
        return np.tanh(evidence * (values - self.threshold) / 2)

    def _values(self, states: np.ndarray) -> tuple[Array, Array]:
        """Values, and what they count for, each `[tokens]`."""
        pooled, counts = POOLINGS[self.pooling](states.astype(np.float64) @ self.weights)
        return pooled + self.bias, self.slope * counts / (counts + self.patience)

    def check(self, *, model: str, model_name: str, criterion: str, criterion_name: str) -> None:
        """Raises `ConfigError` where the probe was fitted for another model or criterion."""
        if model != self.model:
            raise ConfigError(f"the probe is of the model {self.model_name}, not {model_name}", hint=REFIT)
        if criterion != self.criterion:
            other = f"not {criterion_name!r}" if criterion_name != self.criterion_name else "as it was then"
            raise ConfigError(f"the probe is of the criterion {self.criterion_name!r}, {other}", hint=REFIT)

    def save(self, path: Path) -> None:
        """Write the probe as JSON. Raises `ConfigError` where the file cannot be written."""
        data = {
            "format": FORMAT,
            **asdict(replace(self, weights=np.empty(0))),
            "weights": self.weights.tolist(),
        }
        try:
            path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the probe cannot be written: {error}", hint="choose another file") from error


def load_probe(path: str | Path) -> Probe:
    """Read what `Probe.save` wrote. Raises `ConfigError` naming the file and what is wrong with it."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no probe: {error}", hint=REFIT) from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ConfigError(f"{path} is no probe of the form {FORMAT}", hint=REFIT)
    try:
        probe = Probe(**{**data, "weights": np.asarray(data["weights"], dtype=np.float64)})
        _check_values(probe)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no complete probe: {error}", hint=REFIT) from error
    return probe


def _check_values(probe: Probe) -> None:
    if probe.pooling not in POOLINGS:
        raise ValueError(f"pooling = {probe.pooling!r}")
    if isinstance(probe.layer, bool) or not isinstance(probe.layer, int) or probe.layer < 0:
        raise ValueError(f"layer = {probe.layer!r}")
    numbers = (probe.bias, probe.patience, probe.slope, probe.intercept, probe.threshold, probe.false_alarms)
    if probe.weights.ndim != 1 or not np.isfinite([*probe.weights, *numbers]).all():
        raise ValueError("a weight or a constant is no finite number")
