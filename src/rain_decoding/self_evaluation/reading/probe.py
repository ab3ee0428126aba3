"""A linear probe: what reading a model takes, as a small file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rain_decoding.backends.base import layers_text
from rain_decoding.errors import ConfigError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.self_evaluation.reading.pooling import POOLINGS
from rain_decoding.types import VALUES, Array, Layer
from rain_decoding.version import __version__

FORMAT = "rain-probe-3"
WINDOW = 16
"""Tokens of a request that are looked at together."""
REFIT = "fit one for this model and criterion: rain calibrate --save-probe FILE, or leave it out"


class Linear(NamedTuple):
    """Log-odds in nats that an answer of a fixed length is good: `(weights * states).sum() + constant`."""

    weights: Array
    """Float64 `[layers, 1 + tokens, width]`, as the states that `Probe.log_odds` takes."""
    constant: float
    threshold: float
    """Log-odds above which the score is above 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """Says of an answer's beginning how probable it is that it is good, from hidden states alone.

    Behind every token of the answer stands a state, float `[width]`, in each layer, and one, h0, behind the last token
    before it: how the model takes the request. The states of the answer's tokens so far are pooled; with n tokens

        v = mean over the layers (weights @ [pooled, h0]) + bias

    is the value of the beginning, and the log-odds that the answer is good are, in nats,

        slope * n / (n + patience) * v + intercept

    since few tokens say little. An answer counts as good where v is above `threshold`.
    """

    pooling: str
    weights: np.ndarray
    """`[layers, 2 * width]`."""
    bias: float
    patience: float
    slope: float
    intercept: float
    threshold: float

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
        own, before = np.split(self.weights / len(self.weights), 2, axis=1)
        pooled, counts = POOLINGS[self.pooling](np.eye(tokens))
        slope = self.slope * float(counts[-1] / (counts[-1] + self.patience))
        parts = [before[:, None], pooled[-1][None, :, None] * own[:, None]]
        at = slope * self.threshold + self.intercept
        return Linear(slope * np.concatenate(parts, axis=1), slope * self.bias + self.intercept, at)

    def _values(self, states: np.ndarray) -> tuple[Array, Array]:
        """Values, and what they count for, each `[tokens]`."""
        own, before = np.split(self.weights / len(self.weights), 2, axis=1)
        exact = states.astype(np.float64)
        pooled, counts = POOLINGS[self.pooling](np.einsum("lnw,lw->n", exact[:, 1:], own))
        values = pooled + float((exact[:, 0] * before).sum()) + self.bias
        return values, self.slope * counts / (counts + self.patience)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wary(Line):
    """How answers are read where what is asked for is harmful: a line that knows such answers alone.

    The log-odds in nats that a request is harmful are the mean over the layers of `request @ state`, plus
    `request_bias`, in the window of `WINDOW` of its tokens that looks most harmful: what is asked for stands somewhere
    in an attack prompt, and around it is whatever the attacker likes.
    """

    request: np.ndarray
    """`[layers, width]`."""
    request_bias: float

    def harmful(self, states: np.ndarray) -> float:
        """The probability that a request is harmful.

        Args:
            states: hidden states of its tokens, `[layers, tokens, width]`.
        """
        values = np.einsum("lnw,lw->n", states.astype(np.float64), self.request / len(self.request))
        return share(windows(values).max(initial=-np.inf) + self.request_bias)


def mixed_scores(line: Line, wary: Wary | None, states: np.ndarray, harmful: float) -> Array:
    """As `Line.scores`, mixed with those of the wary line, if there is one, where the request may be harmful."""
    own = Line.scores(line, states)
    if wary is None:
        return own
    mixed: Array = (1 - harmful) * own + harmful * wary.scores(states)
    return mixed


def share(log_odds: float) -> float:
    """The probability of log-odds in nats."""
    return float(1 + np.tanh(log_odds / 2)) / 2


def windows(values: np.ndarray) -> Array:
    """Means over every `WINDOW` tokens in a row of `[tokens]` values, or over all where they are fewer."""
    size = min(WINDOW, len(values))
    return np.convolve(values, np.full(size, 1 / size), "valid") if size else values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe(Line):
    """A line of a model and a criterion, and what is known of it.

    On folds held out, `false_alarms` in [0, 1] of the good answers were not above the threshold. `model` is the
    fingerprint of the model that the probe is of, `examples` that of what it was fitted on. `figures` says how well the
    line did on answers that it was not fitted on, beside words.
    Where there is a `wary` line, a score is the mean of both, weighted by the probability that the request is harmful.
    """

    model: str
    model_name: str
    criterion_name: str
    examples: str
    layers: tuple[Layer, ...]
    false_alarms: float
    wary: Wary | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def place(self) -> str:
        """Where it reads, in words."""
        return layers_text(self.layers)

    def harmful(self, request: np.ndarray) -> float:
        """The probability that a request is harmful, see `Wary.harmful`; 0 without a wary line."""
        return 0.0 if self.wary is None else self.wary.harmful(request)

    def scores(self, states: np.ndarray, harmful: float = 0.0) -> Array:
        """As `Line.scores`, of an answer to a request that is harmful with this probability."""
        return mixed_scores(self, self.wary, states, harmful)

    def probability(self, states: np.ndarray, harmful: float = 0.0) -> float:
        """The probability that the answer is good, after its last token. Arguments as for `scores`."""
        own = share(self.log_odds(states)[-1])
        if self.wary is None:
            return own
        return (1 - harmful) * own + harmful * share(self.wary.log_odds(states)[-1])

    def check(self, *, model: str, model_name: str, criterion_name: str, layers: Collection[Layer]) -> None:
        """Raises `ConfigError` where it was fitted for another model or criterion, or reads what is not in `layers`."""
        if model != self.model:
            raise ConfigError(f"the probe is of the model {self.model_name}, not {model_name}", hint=REFIT)
        if criterion_name != self.criterion_name:
            raise ConfigError(
                f"the probe is of the criterion {self.criterion_name!r}, not {criterion_name!r}", hint=REFIT
            )
        if missing := set(self.layers) - set(layers):
            raise ConfigError(
                f"the probe reads {layers_text(missing)}, which {model_name} does not give here", hint=REFIT
            )

    def save(self, path: Path) -> None:
        """Write the probe as JSON. Raises `ConfigError` where the file cannot be written."""
        data = {"format": FORMAT, **asdict(self)}
        text = json.dumps(data, ensure_ascii=False, indent=1, default=np.ndarray.tolist)
        try:
            path.write_text(f"{text}\n", encoding="utf-8")
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
        wary = data.pop("wary", None)
        probe = Probe(
            **_with_arrays(data, "weights") | {"layers": tuple(data["layers"])},
            wary=None if wary is None else Wary(**_with_arrays(wary, "weights", "request")),
        )
        _check_values(probe)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no complete probe: {error}", hint=REFIT) from error
    return probe


def _with_arrays(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**data, **{name: np.asarray(data[name], dtype=np.float64) for name in names}}


def _check_values(probe: Probe) -> None:
    if not probe.layers or any(type(layer) is not int or layer < VALUES for layer in probe.layers):
        raise ValueError(f"layers = {probe.layers!r}")
    _check_line(probe, len(probe.layers))
    if not np.isfinite(probe.false_alarms):
        raise ValueError("false_alarms is no finite number")
    if (wary := probe.wary) is None:
        return
    _check_line(wary, len(probe.layers))
    if wary.weights.shape != probe.weights.shape or wary.request.shape != (
        len(probe.layers),
        probe.weights.shape[1] // 2,
    ):
        raise ValueError("the wary line is of other states than the probe")
    if not np.isfinite([*wary.request.flat, wary.request_bias]).all():
        raise ValueError("a weight or a constant is no finite number")


def _check_line(line: Line, layers: int) -> None:
    if line.pooling not in POOLINGS:
        raise ValueError(f"pooling = {line.pooling!r}")
    if line.weights.ndim != 2 or len(line.weights) != layers or line.weights.shape[1] % 2:
        raise ValueError("the weights are not two a layer for each number of a state")
    numbers = (line.bias, line.patience, line.slope, line.intercept, line.threshold)
    if not np.isfinite([*line.weights.flat, *numbers]).all():
        raise ValueError("a weight or a constant is no finite number")
