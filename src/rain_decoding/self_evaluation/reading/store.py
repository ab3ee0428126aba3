"""Probes that were fitted once are kept, by what they were fitted on and for."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from platformdirs import user_cache_path

from rain_decoding.errors import ConfigError
from rain_decoding.self_evaluation.reading.probe import FORMAT, Probe, load_probe


def probe_file(model: str, examples: str, *settings: object) -> Path:
    """Where the probe of a model and of examples, each by its fingerprint, is kept.

    It lies in the user's cache folder (`XDG_CACHE_HOME`), and may be deleted at any time.
    """
    name = hashlib.sha256(repr((FORMAT, model, examples, *settings)).encode()).hexdigest()[:32]
    return user_cache_path("rain-decoding") / "probes" / f"{name}.json"


def kept_probe(file: Path) -> Probe | None:
    """The probe in the file; None where there is none, or a broken one."""
    try:
        return load_probe(file)
    except ConfigError:
        return None


def keep_probe(file: Path, probe: Probe) -> None:
    """Write the probe for the next time, where the folder lets one write."""
    with contextlib.suppress(OSError, ConfigError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partly = file.with_suffix(f".{id(probe):x}")
        probe.save(partly)
        partly.replace(file)  # another process may be writing it, too
