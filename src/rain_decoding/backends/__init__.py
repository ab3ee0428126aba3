"""Backends, and the registry that finds one by the form of its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.backends import engine_options, names
from rain_decoding.backends.base import Backend, Capabilities, Counters, Handle, Reply
from rain_decoding.backends.engine_options import NO_OPTIONS, Options, parse_options
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


@dataclass(frozen=True, slots=True)
class BackendEntry(Entry[Backend]):
    """`options` are those of the loader that can be written as text."""

    options: Options = field(default_factory=dict)


BACKENDS: Forms[Backend] = Forms(
    "rain_decoding.backends",
    "model",
    [
        BackendEntry(
            "demo",
            _demo,
            "the embedded demo model of a micro-world; nothing to download",
            "hf",
            engine_options.TRANSFORMERS,
        ),
        BackendEntry(
            "gguf:FILE",
            _gguf,
            "a GGUF file on llama.cpp, in this process",
            "gguf",
            engine_options.LLAMA_CPP,
        ),
        BackendEntry(
            "hf:NAME_OR_FOLDER",
            _transformers,
            "a transformers model, from a folder or the hub",
            "hf",
            engine_options.HUB,
        ),
        BackendEntry(
            "openai:BASE_URL#MODEL",
            _openai,
            "a model behind an OpenAI-compatible server; several base URLs with commas between them",
            "endpoint",
            engine_options.ENDPOINT,
        ),
        Entry("scripted:FILE", _scripted, "a deterministic script in TOML, for tests and examples"),
    ],
    unknown=ModelNotFoundError,
    short=[server.form for server in names.SERVERS.values()],
)
"""A loader also takes the options of `load_backend`, and raises `ConfigError` for one that it does not know."""


def find_model(model: str) -> tuple[BackendEntry | Entry[Backend], str]:
    """The entry of a model's name, and what stands behind its colon.

    Args:
        model: As for `load_backend`.

    Raises:
        ModelNotFoundError: no backend has this form, and there is no such file, folder or alias.
        ConfigError: the file of aliases is broken.
    """
    return BACKENDS.find(names.canonical(model, BACKENDS))


def load_backend(model: str, **options: Any) -> Backend:
    """Load a model by its name.

    Args:
        model: Name of one of the forms in `BACKENDS`: `demo`, `hf:NAME_OR_FOLDER`, `gguf:FILE`,
            `openai:BASE_URL#MODEL`, `scripted:FILE`, or a form that another package adds. Or a GGUF file, a folder, a
            server's address, one of the short forms in `names.SERVERS`, or an alias that `rain models add` keeps.
        options: Options of that backend's loader: `backends.transformers.loading.load` (`demo` and `hf:`),
            `backends.gguf.loading.load`, `backends.openai.loading.load`. `scripted:` takes none.

    Returns:
        The backend. It belongs to one scheduler (or server) at a time.

    Raises:
        ModelNotFoundError: no backend has this form, or the model does not exist.
        ConfigError: an option is unknown or out of range.
        MissingDependencyError: the backend's packages are not installed.
        BackendError: the model could not be loaded.
    """
    entry, rest = find_model(model)
    backend = entry.load(rest, **options)
    backend.engine_options = {name: options[name] for name in options.keys() & options_of(entry).keys()}
    return backend


def options_of(entry: Entry[Backend]) -> Options:
    """The options of a backend's loader that can be written as text."""
    return entry.options if isinstance(entry, BackendEntry) else NO_OPTIONS


def read_options(model: str, settings: Iterable[str]) -> dict[str, Any]:
    """Options of `load_backend` in text form, each NAME=VALUE.

    Args:
        model: The model's name.
        settings: What stands behind `--engine-option`.

    Returns:
        The options.

    Raises:
        ModelNotFoundError: no backend has the name's form.
        ConfigError: a setting cannot be read.
    """
    entry, _ = find_model(model)
    return parse_options(options_of(entry), settings, entry.form)


__all__ = [
    "BACKENDS",
    "Backend",
    "BackendEntry",
    "Capabilities",
    "Counters",
    "Handle",
    "Reply",
    "find_model",
    "load_backend",
    "options_of",
    "read_options",
]
