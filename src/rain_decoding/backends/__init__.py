"""Backends, and the registry that finds one by the form of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rain_decoding.backends.base import Backend, Capabilities, Counters, Handle, Reply
from rain_decoding.errors import ModelNotFoundError


def _scripted(path: str, **options: Any) -> Backend:
    from rain_decoding.backends.scripted import ScriptedBackend

    return ScriptedBackend.from_file(path, **options)


def _transformers(name: str, **options: Any) -> Backend:
    from rain_decoding.backends.transformers import load

    return load(name, **options)


def _demo(_: str, **options: Any) -> Backend:
    from rain_decoding.backends.transformers import load
    from rain_decoding.demo import LOADING, MODEL_DIR

    return load(str(MODEL_DIR), display_name="demo", **LOADING, **options)


def _gguf(file: str, **options: Any) -> Backend:
    from rain_decoding.backends.gguf import load
    from rain_decoding.demo import KNOWN

    return load(file, known_models=KNOWN, **options)


def _openai(name: str, **options: Any) -> Backend:
    from rain_decoding.backends.openai import load
    from rain_decoding.demo import KNOWN

    return load(name, known_models=KNOWN, **options)


BACKENDS: dict[str, Callable[..., Backend]] = {
    "demo": _demo,
    "gguf": _gguf,
    "hf": _transformers,
    "openai": _openai,
    "scripted": _scripted,
}
"""From the part of a model's name before the colon to its loader."""

FORMS = {
    "demo": "demo",
    "gguf": "gguf:FILE",
    "hf": "hf:NAME_OR_FOLDER",
    "openai": "openai:BASE_URL#MODEL",
    "scripted": "scripted:FILE",
}


def load_backend(model: str, **options: Any) -> Backend:
    """Load the model called `model`: one of `FORMS`.

    `options` go to the loader (see `backends.transformers.load`, `backends.gguf.load`,
    `backends.openai.load`). Raises
    `ModelNotFoundError` for a name of no known form, and what the loader raises.
    """
    kind, _, rest = model.partition(":")
    if kind not in BACKENDS or (FORMS[kind] == kind) != (not rest):
        raise ModelNotFoundError(f"unknown model {model!r}", hint=f"forms: {', '.join(FORMS.values())}")
    return BACKENDS[kind](rest, **options)


__all__ = ["BACKENDS", "FORMS", "Backend", "Capabilities", "Counters", "Handle", "Reply", "load_backend"]
