"""Engines over models that callers hold: made once per model, and made anew when the model has changed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain_decoding.backends.base import Engine
from rain_decoding.backends.local import CRITERIA_FOLDER, LocalBackend
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.backends.transformers.loading import context_length, fingerprint, load_tokenizer
from rain_decoding.backends.transformers.plain import plain_logits
from rain_decoding.backends.transformers.probe import choose_engine
from rain_decoding.errors import InputError
from rain_decoding.types import Tokens

NEVER = -1
"""No token."""
CANARY: Tokens = (0, 1, 2, 3)


@dataclass
class Known:
    """What is kept for a model. `canary` are its logits after the tokens `CANARY`: a changed model gives others."""

    engine: Engine
    canary: bytes
    fingerprint: str
    tokenizer: Any


_known: weakref.WeakKeyDictionary[Any, Known] = weakref.WeakKeyDictionary()


def backend_over(model: Any, tokenizer: Any, eos: Iterable[int]) -> LocalBackend:
    """A backend over a caller's model, whose texts end with the tokens `eos`.

    The engine, and with it what it has cached, stays with the model until the model is gone or answers otherwise
    than before: a few tokens are forwarded to see that. `tokenizer` None is the one used before, or that of the
    folder or repository that the model came from.
    """
    name = str(getattr(model, "name_or_path", "") or "")
    known = _known.get(model)
    if tokenizer is None:
        tokenizer = known.tokenizer if known else _tokenizer_from(name)
    canary = plain_logits(model, CANARY).tobytes()
    if known is None or known.canary != canary:
        # A proxy, as the engine would keep its own model alive otherwise.
        proxy, length = weakref.proxy(model), context_length(model.config, tokenizer)
        engine = choose_engine(proxy, length, name=name or type(model).__name__)
        known = _known[model] = Known(engine, canary, fingerprint(model), tokenizer)
    known.tokenizer = tokenizer
    ends = frozenset(eos)
    codec = HFCodec(tokenizer, eos_ids=ends or {NEVER})
    codec.eos = ends  # generate does not ask the tokenizer
    folder = Path(name, CRITERIA_FOLDER)
    dirs = [folder] if name and folder.is_dir() else []
    return LocalBackend(
        name or type(model).__name__,
        known.engine,
        codec,
        fingerprint=known.fingerprint,
        criteria_dirs=dirs,
    )


def _tokenizer_from(name: str) -> Any:
    if not name:
        raise InputError(
            "rain_generate needs the model's tokenizer", hint="pass rain_tokenizer=tokenizer to generate"
        )
    return load_tokenizer(name)
