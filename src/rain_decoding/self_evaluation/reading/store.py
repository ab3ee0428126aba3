"""Probes that were fitted once are kept, by what they were fitted on and for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from rain_decoding.errors import ConfigError
from rain_decoding.self_evaluation.kept import alone, keep, kept_file
from rain_decoding.self_evaluation.reading.probe import FORMAT, Probe, load_probe


def probe_file(model: str, examples: str, *settings: object) -> Path:
    """Where the probe of a model and of examples, each by its fingerprint, is kept."""
    return kept_file("probes", FORMAT, model, examples, *settings)


def kept_probe(file: Path, fit: Callable[[], Probe]) -> Probe:
    """The probe in the file; where there is none, or a broken one, what `fit` gives, written for the next time.

    Of processes that want the same one at once, one fits it, and the others wait for that.
    """
    with contextlib.suppress(ConfigError):
        return load_probe(file)
    with alone(file):
        with contextlib.suppress(ConfigError):
            return load_probe(file)
        probe = fit()
        keep(file, probe.save)
    return probe
