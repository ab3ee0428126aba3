"""What a search asks of its engine, written down, and done again on another model.

An engine's work depends on token sequences and on nothing else, so the same calls are the same work.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from rain_decoding.backends.base import Engine, Forwarded
from rain_decoding.types import Layer, Tokens

Call = tuple[str, tuple[Any, ...]]
"""Name and arguments of one of an engine's methods."""


class RecordingEngine:
    """Passes everything on to another engine and keeps a list of it. Implements `backends.base.Engine`."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.calls: list[Call] = []
        self.seconds = 0.0
        """Time inside the other engine's forwards."""
        self.vocabulary_size = engine.vocabulary_size
        self.context_length = engine.context_length
        self.layers = engine.layers
        self.shares_prefixes = engine.shares_prefixes
        self.counts_apart = engine.counts_apart
        self.directions = engine.directions

    def take(self) -> list[Call]:
        """The calls since the last time."""
        taken, self.calls = self.calls, []
        return taken

    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        self.calls.append(("forward", (tuple(sequences), tuple(owners))))
        started = time.perf_counter()
        result = self.engine.forward(sequences, owners)
        self.seconds += time.perf_counter() - started
        return result

    @property
    def kept_layers(self) -> Collection[Layer]:
        return self.engine.kept_layers

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        self._pass_on("keep_layers", tuple(layers))

    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        self.calls.append(("hidden", (sequence, start, layers, owner)))
        return self.engine.hidden(sequence, start, layers, owner)

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None:
        self._pass_on("trim", owner, sequence, keep)

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        self._pass_on("retain", owner, tuple(prefixes))

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None:
        self._pass_on("finish", owner, tuple(keep))

    def pin(self, tokens: Tokens) -> int:
        return self._pass_on("pin", tokens)

    def clear(self) -> None:
        self._pass_on("clear")

    def _pass_on(self, method: str, *arguments: Any) -> Any:
        self.calls.append((method, arguments))
        return getattr(self.engine, method)(*arguments)

    @property
    def slots_used(self) -> int:
        return self.engine.slots_used


def replay(calls: Iterable[Call], engine: Engine) -> int:
    """Make the calls on this engine; returns the most slots it used."""
    peak = engine.slots_used
    for method, arguments in calls:
        getattr(engine, method)(*arguments)
        peak = max(peak, engine.slots_used)
    return peak
