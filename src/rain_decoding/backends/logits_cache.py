"""Recently computed logits, so that asking twice costs no forward."""

from __future__ import annotations

import numpy as np

from rain_decoding.bounded import BoundedCache, Key


class LogitsCache(BoundedCache[Key, np.ndarray]):
    """Rows of logits (float32 `[vocabulary]`) by key, least recently used first out, bounded in bytes."""

    def __init__(self, max_bytes: int):
        super().__init__(max_bytes, lambda _, row: row.nbytes)

    def put(self, key: Key, row: np.ndarray) -> None:
        # A view of an array would keep the whole step's logits alive; one of bytes has them to itself.
        super().put(key, row if isinstance(row.base, bytes) else row.copy())
