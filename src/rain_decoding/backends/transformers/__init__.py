"""Models on PyTorch through `transformers`: a token trie with one KV buffer, and fallbacks for other designs.

`load` and `wrap` are documented in `loading`. torch and transformers are imported when one of them is called.
"""

from __future__ import annotations

from typing import Any

from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import MissingDependencyError
from rain_decoding.extras import install


def load(name: str, **options: Any) -> LocalBackend:
    """Load a model on transformers.

    Args:
        name: A folder, or OWNER/NAME of the Hugging Face hub.
        options: See `loading.load`.

    Returns:
        The backend.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
        RainError: as `loading.load`.
    """
    return _loading().load(name, **options)


def wrap(model: Any, tokenizer: Any, **options: Any) -> LocalBackend:
    """Make a backend of a loaded model.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        options: See `loading.wrap`.

    Returns:
        The backend.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
        RainError: as `loading.wrap`.
    """
    return _loading().wrap(model, tokenizer, **options)


def _loading() -> Any:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"models on transformers need {error.name or 'torch'}", hint=install("hf")
        ) from error
    from rain_decoding.backends.transformers import loading

    return loading


__all__ = ["load", "wrap"]
