"""Rows of logits, from llama.cpp's own memory: the binding makes a Python object of every entry of the vocabulary."""

from __future__ import annotations

import os
from contextlib import suppress
from struct import Struct
from typing import Any

import numpy as np

SHOWN = 16
"""Entries of a row that the binding is asked for, by which a row in memory is recognised."""
POINTER = Struct("P")
STRUCTURE = 4096
"""Bytes of llama.cpp's context in which the address of its logits is looked for."""
MEMORY = "/proc/self/mem"
"""This process's memory as a file, where Linux runs: what is not there cannot be read, and does no harm."""


class LogitsReader:
    """Copies rows of logits from where llama.cpp has them.

    The binding has no view of them, so their address is looked for in its context, and every row is compared with its
    first entries as the binding gives them. Where that fails (no Linux, another build) rows come through the binding:
    on a vocabulary of 152,000 in 3 ms instead of 0.1.
    """

    def __init__(self, vocabulary_size: int, model: Any = None):
        """`model` is the `Model` of the contexts to read from; None: read through the binding."""
        self._model = model
        self._whole = Struct(f"{vocabulary_size}f")
        self._start = Struct(f"{min(SHOWN, vocabulary_size)}f")
        self._place: tuple[int, int] | None = None
        """Bytes into the Python object to the address of llama.cpp's context, and in that to the logits' address."""
        self._memory: int | None = None
        if model is not None:
            with suppress(OSError):
                self._memory = os.open(MEMORY, os.O_RDONLY)

    def __del__(self) -> None:
        self.close()

    @property
    def direct(self) -> bool:
        """Whether rows come from memory."""
        return self._memory is not None

    def close(self) -> None:
        """Read through the binding from now on."""
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    def read(self, context: Any, token: int, output: int) -> np.ndarray:
        """The logits of a decode, float32 `[vocabulary]`: those after token number `token` of the batch, `output`
        being how many tokens before it have some."""
        if self.direct:
            shown = self._start.size // 4
            with self._model.showing(shown):
                start = context.get_logits_ith(token)  # this waits for the decode, too
            if len(start) == shown and (row := self._row(context, output, self._start.pack(*start))):
                return np.frombuffer(row, dtype=np.float32)
            self.close()
        return np.frombuffer(self._whole.pack(*context.get_logits_ith(token)), dtype=np.float32)

    def _row(self, context: Any, output: int, start: bytes) -> bytes | None:
        """Row `output` of the logits in memory, if one that begins with `start` is found there."""
        offset = output * self._whole.size
        if self._place is None or self._at(self._address(context) + offset, len(start)) != start:
            self._place = self._search(context, offset, start)
        if self._place is None:
            return None
        row = self._at(self._address(context) + offset, self._whole.size)
        return row if len(row) == self._whole.size else None

    def _address(self, context: Any) -> int:
        """Where the logits begin."""
        assert self._place is not None
        inside, place = self._place
        return self._pointer(self._pointer(id(context) + inside) + place)

    def _search(self, context: Any, offset: int, start: bytes) -> tuple[int, int] | None:
        """The place of an address in llama.cpp's context, so many bytes behind which this start of a row lies."""
        for inside, structure in enumerate(self._pointers(id(context), type(context).__basicsize__)):
            for place, address in enumerate(self._pointers(structure, STRUCTURE)):
                if self._at(address + offset, len(start)) == start:
                    return inside * POINTER.size, place * POINTER.size
        return None

    def _pointers(self, address: int, size: int) -> list[int]:
        found = self._at(address, size)
        return [each for (each,) in POINTER.iter_unpack(found[: len(found) // POINTER.size * POINTER.size])]

    def _pointer(self, address: int) -> int:
        return next(iter(self._pointers(address, POINTER.size)), 0)

    def _at(self, address: int, size: int) -> bytes:
        """Memory at this address; less than asked for, or nothing, where there is none."""
        assert self._memory is not None
        with suppress(OSError, OverflowError):
            return os.pread(self._memory, size, address)
        return b""
