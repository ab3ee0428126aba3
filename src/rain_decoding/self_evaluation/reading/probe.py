"""A linear probe: what reading a model takes, as a small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rain_decoding.errors import ConfigError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.self_evaluation.reading.pooling import POOLINGS
from rain_decoding.types import Array, Layer
from rain_decoding.version import __version__

FORMAT = "rain-probe-2"
REFIT = "fit one for this model and criterion: rain calibrate --save-probe FILE, or leave it out"


class Linear(NamedTuple):
    """Log-odds in nats that an answer of a fixed length is good: `(weights * states).sum() + constant`."""

    weights: Array
    """Float64 `[layers, 1 + tokens, width]`, as the states that `Probe.log_odds` takes."""
    constant: float
    threshold: float
    """Log-odds above which the score is above 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """Says of an answer's beginning how probable it is that it is good, from hidden states alone.

    Behind every token of the answer stands a state, float `[width]`, in each layer, and one, h0, behind the last token
    before it: how the model takes the request. The states of the answer's tokens so far are pooled; with n tokens

        v = mean over the layers (weights @ [pooled, h0]) + bias

    is the value of the beginning, and the log-odds that the answer is good are, in nats,

        slope * n / (n + patience) * v + intercept

    since few tokens say little. An answer counts as good where v is above `threshold`; on folds held out,
    `false_alarms` in [0, 1] of the good ones did not. `model` is the fingerprint of the model that the probe is of,
    `examples` that of what it was fitted on. `figures` says how well it did on answers that it was not fitted on,
    beside words.
    """

    model: str
    model_name: str
    criterion_name: str
    examples: str
    layers: tuple[Layer, ...]
    pooling: str
    weights: np.ndarray
    """`[layers, 2 * width]`."""
    bias: float
    patience: float
    slope: float
    intercept: float
    threshold: float
    false_alarms: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def place(self) -> str:
        """Where it reads, in words."""
        names = [str(layer) if layer else "last" for layer in self.layers]
        return f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}"

    def log_odds(self, states: np.ndarray) -> Array:
        """Log-odds in nats, float64 `[tokens]`, that an answer which ends at each of the tokens is good.

        Args:
            states: hidden states of the probe's layers, `[layers, 1 + tokens, width]`: at the last token before the
                answer, and at the answer's tokens so far.
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

    def linear(self, tokens: int) -> Linear:
        """The log-odds of an answer of so many tokens > 0 as a function of its states."""
        own, before = np.split(self.weights / len(self.layers), 2, axis=1)
        pooled, counts = POOLINGS[self.pooling](np.eye(tokens))
        slope = self.slope * float(counts[-1] / (counts[-1] + self.patience))
        parts = [before[:, None], pooled[-1][None, :, None] * own[:, None]]
        at = slope * self.threshold + self.intercept
        return Linear(slope * np.concatenate(parts, axis=1), slope * self.bias + self.intercept, at)

    def _values(self, states: np.ndarray) -> tuple[Array, Array]:
        """Values, and what they count for, each `[tokens]`."""
        own, before = np.split(self.weights / len(self.layers), 2, axis=1)
        exact = states.astype(np.float64)
        pooled, counts = POOLINGS[self.pooling](np.einsum("lnw,lw->n", exact[:, 1:], own))
        values = pooled + float((exact[:, 0] * before).sum()) + self.bias
        return values, self.slope * counts / (counts + self.patience)

    def check(self, *, model: str, model_name: str, criterion_name: str) -> None:
        """Raises `ConfigError` where the probe was fitted for another model or criterion."""
        if model != self.model:
            raise ConfigError(f"the probe is of the model {self.model_name}, not {model_name}", hint=REFIT)
        if criterion_name != self.criterion_name:
            raise ConfigError(
                f"the probe is of the criterion {self.criterion_name!r}, not {criterion_name!r}", hint=REFIT
            )

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
        data = json.loads(read_text(path))
    except (*UNREADABLE, ValueError) as error:
        raise ConfigError(f"{path} is no probe: {error}", hint=REFIT) from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ConfigError(f"{path} is no probe of the form {FORMAT}", hint=REFIT)
    try:
        weights = np.asarray(data["weights"], dtype=np.float64)
        probe = Probe(**{**data, "weights": weights, "layers": tuple(data["layers"])})
        _check_values(probe)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no complete probe: {error}", hint=REFIT) from error
    return probe


def _check_values(probe: Probe) -> None:
    if probe.pooling not in POOLINGS:
        raise ValueError(f"pooling = {probe.pooling!r}")
    if not probe.layers or any(type(layer) is not int or layer < 0 for layer in probe.layers):
        raise ValueError(f"layers = {probe.layers!r}")
    numbers = (probe.bias, probe.patience, probe.slope, probe.intercept, probe.threshold, probe.false_alarms)
    if probe.weights.ndim != 2 or len(probe.weights) != len(probe.layers) or probe.weights.shape[1] % 2:
        raise ValueError("the weights are not two a layer for each number of a state")
    if not np.isfinite([*probe.weights.flat, *numbers]).all():
        raise ValueError("a weight or a constant is no finite number")
