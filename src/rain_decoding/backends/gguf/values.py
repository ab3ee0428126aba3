"""The value vectors in llama.cpp's KV cache, from the state of a sequence that it hands out.

llama.cpp gives no states of layers behind which it goes on, but it keeps what attention took from them: each layer's
values are a linear function of the state before it. So nothing is computed for them, and no token forwarded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

HEADER = 2
"""Numbers before the caches: a mark of llama.cpp's, and the sequence."""
MORE = (0, 2)
"""Numbers behind that of the layers; newer versions of llama.cpp say there how keys and values are turned."""
BAND = (0.5, 0.9)
"""Of a cache's layers those that are read, as shares of their number (docs/results/reading.md)."""
TYPES: dict[int, np.dtype[Any]] = {0: np.dtype(np.float32), 1: np.dtype(np.float16)}
"""By their numbers in ggml."""


def values_of(state: bytes) -> np.ndarray:
    """Values of a sequence's tokens in their order, float `[tokens, width]`: those of the `BAND`, side by side.

    Of a model with a sliding window the state holds two caches, of the layers without and of those with one.

    Raises:
        ValueError: the state is of no form that is known here.
    """
    problems = []
    for more in MORE:
        try:
            return _values(state, more)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _values(state: bytes, more: int) -> np.ndarray:
    cursor = Cursor(state)
    cursor.numbers(HEADER)
    parts: list[np.ndarray] = []
    while cursor.left:
        parts += _cache(cursor, more)
    return np.concatenate(parts, axis=1)  # which refuses caches of different lengths, and none at all


def _cache(cursor: Cursor, more: int) -> list[np.ndarray]:
    """The values in one cache, `[tokens, width]` for each layer of the `BAND`."""
    streams, cells = cursor.numbers(2)
    if streams != 1 or not cells:
        raise ValueError(f"{streams} streams, {cells} cells")
    positions = []
    for _ in range(cells):
        position, ids = cursor.numbers(2)
        cursor.numbers(ids)
        positions.append(position)
    transposed, layers, *_ = cursor.numbers(2 + more)
    for _ in range(layers):  # keys, in rows
        _, row, _ = cursor.numbers(3)
        cursor.take(cells * row)
    values = _columns(cursor, cells) if transposed else _rows(cursor, cells)
    order = np.argsort(positions)
    if len(set(positions)) != cells:
        raise ValueError("a position is there twice")
    read = [each[order] for each in islice(values, layers)]
    first = round(layers * BAND[0])
    return read[first : max(first + 1, round(layers * BAND[1]))]


def _rows(cursor: Cursor, cells: int) -> Iterator[np.ndarray]:
    while True:
        kind, row, _ = cursor.numbers(3)
        yield cursor.array(kind, cells * row).reshape(cells, -1)


def _columns(cursor: Cursor, cells: int) -> Iterator[np.ndarray]:
    """As they lie without flash attention: one number of all tokens behind the other."""
    while True:
        kind, size, width = cursor.numbers(3)
        yield cursor.array(kind, width * cells * size).reshape(width, cells).T


class Cursor:
    """Takes a state apart from its beginning on. Raises `ValueError` where it ends too early."""

    def __init__(self, state: bytes):
        self._state = state
        self._place = 0

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._state) - self._place

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        if size > self.left:
            raise ValueError(f"{size} bytes where {self.left} are left")
        self._place += size
        return memoryview(self._state)[self._place - size : self._place]

    def numbers(self, count: int) -> list[int]:
        """The next unsigned numbers of four bytes; of a longer one the lower half comes first."""
        found: list[int] = np.frombuffer(self.take(4 * count), dtype="<u4").tolist()
        return found

    def array(self, kind: int, size: int) -> np.ndarray:
        """The next bytes as numbers of one of ggml's `TYPES`."""
        if kind not in TYPES:
            raise ValueError(f"values of type {kind}")
        return np.frombuffer(self.take(size), dtype=TYPES[kind])
