"""Probes that were fitted once are kept, by what they were fitted on and for."""

from __future__ import annotations

from pathlib import Path

from rain_decoding.errors import ConfigError
from rain_decoding.self_evaluation.kept import keep, kept_file
from rain_decoding.self_evaluation.reading.probe import FORMAT, Probe, load_probe


def probe_file(model: str, examples: str, *settings: object) -> Path:
    """Where the probe of a model and of examples, each by its fingerprint, is kept."""
    return kept_file("probes", FORMAT, model, examples, *settings)


def kept_probe(file: Path) -> Probe | None:
    """The probe in the file; None where there is none, or a broken one."""
    try:
        return load_probe(file)
    except ConfigError:
        return None


def keep_probe(file: Path, probe: Probe) -> None:
    """Write the probe for the next time, where the folder lets one write."""
    keep(file, probe.save)
