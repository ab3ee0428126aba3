"""What is remembered of many things: a cache that never grows beyond so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ENTRY_BYTES = 200
"""What an entry takes besides, about: its places in the table and the order, and its objects' heads."""


class BoundedCache(Generic[Key, Value]):
    """Values by key, those that were used least recently out first; threads may share it.

    `size` says how many bytes a key and its value take; an entry that is too large for all of `max_bytes` is not kept.
    `dropped` is told what goes.
    """

    def __init__(
        self,
        max_bytes: int,
        size: Callable[[Key, Value], int],
        dropped: Callable[[Key, Value], object] | None = None,
    ):
        self.max_bytes, self.bytes = max_bytes, 0
        self._size, self._dropped = size, dropped
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """The value, which counts as used now; None where there is none."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, in the place of the key's old one."""
        with self._lock:
            self.drop(key)
            self._entries[key] = value
            self.bytes += self._size(key, value) + ENTRY_BYTES
            while self.bytes > self.max_bytes:
                self.drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        """Forget a value, if there is one."""
        with self._lock:
            if (value := self._entries.pop(key, None)) is not None:
                self.bytes -= self._size(key, value) + ENTRY_BYTES
                if self._dropped is not None:
                    self._dropped(key, value)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for key in list(self._entries):
                self.drop(key)
