"""Engines over models that callers hold: made once per model, and made anew when the model has changed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rain_decoding.backends.base import Engine
from rain_decoding.backends.local import CRITERIA_FOLDER, LocalBackend
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.backends.transformers.loading import context_length, load_tokenizer
from rain_decoding.backends.transformers.plain import plain_logits
from rain_decoding.backends.transformers.probe import choose_engine
from rain_decoding.errors import InputError
from rain_decoding.types import Tokens

NEVER = -1
"""No token."""


@dataclass
class Known:
    """What is kept for a model. `canary` are its logits after `CANARY`, from which a changed model is known."""

    CANARY: ClassVar[Tokens] = (0, 1, 2, 3)

    engine: Engine
    canary: bytes
    tokenizer: Any = None


_known: weakref.WeakKeyDictionary[Any, Known] = weakref.WeakKeyDictionary()


def backend_over(model: Any, tokenizer: Any, eos: Iterable[int]) -> LocalBackend:
    """A backend over a caller's model, whose texts end with the tokens `eos`.

    The engine, and with it what it has cached, stays with the model until the model is gone or answers otherwise
    than before: a few tokens are forwarded to see that. `tokenizer` None is the one used before, or that of the
    folder or repository that the model came from.
    """
    known = _engine_of(model)
    name = str(getattr(model, "name_or_path", "") or "")
    if tokenizer is None:
        tokenizer = known.tokenizer or _tokenizer_from(name)
    known.tokenizer = tokenizer
    ends = frozenset(eos)
    codec = HFCodec(tokenizer, eos_ids=ends or {NEVER})
    codec.eos = ends  # generate does not ask the tokenizer
    folder = Path(name, CRITERIA_FOLDER)
    dirs = [folder] if name and folder.is_dir() else []
    return LocalBackend(name or type(model).__name__, known.engine, codec, criteria_dirs=dirs)


def _engine_of(model: Any) -> Known:
    canary = plain_logits(model, Known.CANARY).tobytes()
    known = _known.get(model)
    if known is None or known.canary != canary:
        # A proxy, as the engine would keep its own model alive otherwise.
        proxy = weakref.proxy(model)
        name = getattr(model, "name_or_path", "") or type(model).__name__
        engine = choose_engine(proxy, context_length(model.config, None), name=name)
        known = _known[model] = Known(engine, canary, known.tokenizer if known else None)
    return known


def _tokenizer_from(name: str) -> Any:
    if not name:
        raise InputError(
            "rain_generate needs the model's tokenizer", hint="pass rain_tokenizer=tokenizer to generate"
        )
    return load_tokenizer(name)
