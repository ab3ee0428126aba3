"""Backends, and the registry that finds one by the form of its name."""

from __future__ import annotations

from typing import Any

from rain_decoding.backends.base import Backend, Capabilities, Counters, Handle, Reply
from rain_decoding.errors import ModelNotFoundError
from rain_decoding.plugins import Entry, Forms


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


BACKENDS: Forms[Backend] = Forms(
    "rain_decoding.backends",
    "model",
    [
        Entry("demo", _demo, "the embedded demo model of a micro-world; nothing to download", extra="hf"),
        Entry("gguf:FILE", _gguf, "a GGUF file on llama.cpp, in this process", extra="gguf"),
        Entry(
            "hf:NAME_OR_FOLDER", _transformers, "a transformers model, from a folder or the hub", extra="hf"
        ),
        Entry(
            "openai:BASE_URL#MODEL",
            _openai,
            "a model behind an OpenAI-compatible server; several base URLs with commas between them",
            extra="endpoint",
        ),
        Entry("scripted:FILE", _scripted, "a deterministic script in TOML, for tests and examples"),
    ],
    unknown=ModelNotFoundError,
)
"""A loader also takes the options of `load_backend`, and raises `ConfigError` for one that it does not know."""


def load_backend(model: str, **options: Any) -> Backend:
    """Load the model called `model`, whose form is one of `BACKENDS`.

    `options` go to the loader (see `backends.transformers.load`, `backends.gguf.load`,
    `backends.openai.load`). Raises
    `ModelNotFoundError` for a name of no known form, and what the loader raises.
    """
    entry, rest = BACKENDS.find(model)
    return entry.load(rest, **options)


__all__ = ["BACKENDS", "Backend", "Capabilities", "Counters", "Handle", "Reply", "load_backend"]
