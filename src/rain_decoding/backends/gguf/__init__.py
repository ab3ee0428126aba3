"""GGUF files on llama.cpp in this process, through `cyllama`.

Of the bindings it is the one that comes as a wheel and gives what a token tree needs: batches whose tokens belong to
several sequences, `memory_seq_cp` and `memory_seq_rm`, the logits of every token, and the tokenizer. (`xllamacpp`
wraps the server only; `llama-cpp-python` has to be compiled.) It is imported when `load` is called.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import ConfigError, MissingDependencyError
from rain_decoding.extras import install
from rain_decoding.types import VALUES


def load(file: str, **options: Any) -> LocalBackend:
    """Load a GGUF file.

    Args:
        file: The .gguf file; of a split model, the first part.
        options: See `loading.load`; besides, `keep_hidden=True` keeps the hidden states for the embedding `hidden`.

    Returns:
        The backend.

    Raises:
        MissingDependencyError: cyllama or jinja2 is not installed.
        RainError: as `loading.load`.
    """
    try:
        import cyllama.llama.llama_cpp  # noqa: F401
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"GGUF models need {error.name or 'cyllama'}", hint=install("gguf")
        ) from error
    from rain_decoding.backends.gguf import loading

    keep_hidden = options.pop("keep_hidden", False)
    known = list(signature(loading.load).parameters)[1:]
    if unknown := options.keys() - known:
        raise ConfigError(
            f"a GGUF model does not accept the option {', '.join(sorted(unknown))}",
            hint=f"options: {', '.join(known)}",
        )
    backend = loading.load(file, **options)
    if keep_hidden:
        backend.keep_layers([VALUES])
    return backend


__all__ = ["load"]
