"""Recently computed logits, so that asking twice costs no forward."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


class LogitsCache(Generic[Key]):
    """Rows of logits (float32 `[vocabulary]`) by key, least recently used first out, bounded in bytes."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._bytes = 0
        self._rows: OrderedDict[Key, np.ndarray] = OrderedDict()

    def get(self, key: Key) -> np.ndarray | None:
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: Key, row: np.ndarray) -> None:
        self.drop(key)
        self._rows[key] = row.copy()  # a view would keep the whole step's logits alive
        self._bytes += row.nbytes
        while self._bytes > self.max_bytes:
            self._bytes -= self._rows.popitem(last=False)[1].nbytes

    def drop(self, key: Key) -> None:
        if (row := self._rows.pop(key, None)) is not None:
            self._bytes -= row.nbytes

    def clear(self) -> None:
        self._rows.clear()
        self._bytes = 0
