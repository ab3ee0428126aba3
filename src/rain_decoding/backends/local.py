"""`LocalBackend`: turns requests into token-level jobs and runs all of them together, one forward per step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rain_decoding.backends.base import (
    Capabilities,
    Closing,
    Codec,
    Counters,
    Engine,
    Handle,
    Reply,
    Steering,
    cannot_shift,
    check_layers,
    check_request,
    closed,
)
from rain_decoding.backends.dialogue import header_or_default
from rain_decoding.backends.directions import Direction
from rain_decoding.backends.jobs import Job, make_job
from rain_decoding.errors import CapacityError, InputError, NumericalError, RainError
from rain_decoding.turns import Shared, in_turn
from rain_decoding.types import UNBIASED, BackendRequest, HiddenStates, LabelProbabilities, Layer, Tokens

TINY = 20_000_000
"""Models of fewer parameters spend their time on calls: no shortcut that costs accuracy is worth it there."""
CRITERIA_FOLDER = "rain_criteria"
"""A model's folder may bring criteria in a folder of this name."""


def criteria_of(folder: Path, *, trusted: bool) -> list[Path]:
    """The folder of criteria that a model's folder brings, or, if they are `trusted`, its files; empty for none."""
    own = folder / CRITERIA_FOLDER
    if not own.is_dir():
        return []
    return sorted(own.glob("*.toml")) if trusted else [own]


class LocalBackend(Shared, Closing):
    """A backend over an `Engine` (see `backends.base`) that lives in this process."""

    _owners: ClassVar = itertools.count(1)
    """Common to all, so that several backends may share an engine."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        codec: Codec,
        *,
        fingerprint: str = "",
        criteria_dirs: Iterable[Path] = (),
        dialogue_header: str | None = None,
        prompt_token_cost: float = 0.0,
        on_close: Callable[[], None] = lambda: None,
    ):
        """`on_close` lets go of what else keeps the model, beside the engine."""
        self.name = name
        self._engine: Engine | None = engine
        self._on_close = on_close
        self.codec = codec
        self.context_length = engine.context_length
        self.capabilities = Capabilities(
            engine.layers,
            engine.shares_prefixes,
            contrast=True,
            shifts=engine.directions is not None,
            penalties=True,
            counts_apart=engine.counts_apart,
            prompt_token_cost=prompt_token_cost,
        )
        self.counters = Counters()
        self.fingerprint = fingerprint
        self.criteria_dirs = tuple(criteria_dirs)
        self.dialogue_header = header_or_default(dialogue_header)
        self.engine_options: Mapping[str, Any] = {}
        self._steering: dict[int, Steering] = {}
        self._jobs: dict[Handle, Job] = {}

    @property
    def engine(self) -> Engine:
        """What runs the model. Raises `UnsupportedError` once that was given back."""
        if self._engine is None:
            raise closed(self.name)
        return self._engine

    @in_turn
    def close(self) -> None:
        """See `Backend.close`."""
        self._engine = None
        self.counters.kv_slots = 0
        self._on_close()

    @property
    def pending(self) -> int:
        return len(self._jobs)

    @in_turn
    def new_owner(self) -> int:
        return next(self._owners)

    @in_turn
    def steer(self, owner: int, steering: Steering) -> None:
        """Let `steering` act on all that is generated for the owner, until it is finished."""
        self._steering[owner] = steering

    @in_turn
    def submit(self, request: BackendRequest, owner: int) -> Handle:
        check_request(self, request)
        self._check_bias(request)
        handle = Handle(request, owner)
        self._jobs[handle] = make_job(request, self.codec, self.context_length, self._steering.get(owner))
        return handle

    def _check_bias(self, request: BackendRequest) -> None:
        size = self.engine.vocabulary_size
        for token, _ in getattr(request, "logit_bias", UNBIASED).tokens:
            if not 0 <= token < size:
                raise InputError(
                    f"logit_bias names token {token}",
                    hint=f"the token ids of {self.name} are 0 to {size - 1}",
                )

    @in_turn
    def cancel(self, handle: Handle) -> None:
        self._jobs.pop(handle, None)

    @property
    def kept_layers(self) -> Collection[Layer]:
        return self.engine.kept_layers

    @in_turn
    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """See `Backend.keep_layers`."""
        check_layers(self.name, layers, self.engine.layers)
        self.engine.keep_layers(layers)

    @in_turn
    def shift_along(self, direction: Direction) -> int:
        """See `Backend.shift_along`."""
        if self.engine.directions is None:
            raise cannot_shift(self.name)
        check_layers(self.name, direction.layers, self.engine.layers)
        return self.engine.directions.number(direction)

    @in_turn
    def step(self) -> list[Reply]:
        if self._engine is None:
            jobs, self._jobs = self._jobs, {}
            return [Reply(handle, error=closed(self.name)) for handle in jobs]
        replies = [self._finish_job(handle, job) for handle, job in list(self._jobs.items()) if job.done]
        replies += [
            self._hidden(handle) for handle in list(self._jobs) if isinstance(handle.request, HiddenStates)
        ]
        if self._jobs:
            replies += self._forward()
        return replies

    def wake(self) -> None:
        """A step waits for nothing here."""

    def check(self) -> None:
        """The model is here."""

    def _forward(self) -> list[Reply]:
        """One forward for all jobs; where one of them is too large, one for each, to find out which."""
        handles = list(self._jobs)
        try:
            return self._advance(handles)
        except CapacityError:
            return [reply for handle in handles for reply in self._advance_alone(handle)]

    def _advance_alone(self, handle: Handle) -> list[Reply]:
        try:
            return self._advance([handle])
        except CapacityError as error:
            del self._jobs[handle]
            return [Reply(handle, error=error)]

    def _advance(self, handles: Iterable[Handle]) -> list[Reply]:
        """One forward for the sequences these jobs want, of each owner once, then advance each of them."""
        rows: dict[tuple[Tokens, int], int] = {}
        wanting: list[Handle] = []
        own: list[tuple[Handle, Job, list[int]]] = []
        for handle in handles:
            job = self._jobs[handle]
            wanted = [rows.setdefault((sequence, handle.owner), len(rows)) for sequence in job.wants()]
            wanting += [handle] * (len(rows) - len(wanting))
            own.append((handle, job, wanted))
        if not rows:
            return []
        sequences, owners = zip(*rows, strict=True)
        logits, forwarded, alone = self.engine.forward(sequences, owners)
        for handle, count, own_count in zip(wanting, forwarded, alone, strict=True):
            handle.forwarded += count
            handle.spared += own_count - count
        self._count(sum(forwarded))
        usable = np.isfinite(logits.max(axis=1))  # else NaN somewhere, or nothing but -inf
        replies = []
        for handle, job, wanted in own:
            if not usable[wanted].all():
                del self._jobs[handle]
                replies.append(Reply(handle, error=_not_a_number(self.name)))
                continue
            job.advance(logits[wanted])
            handle.decoded = job.decoded
            if job.done:
                replies.append(self._finish_job(handle, job))
        return replies

    def _finish_job(self, handle: Handle, job: Job) -> Reply:
        del self._jobs[handle]
        request = handle.request
        if isinstance(request, LabelProbabilities):
            self.engine.trim(handle.owner, request.prefix, request.keep)
        return Reply(handle, value=job.value())

    def _hidden(self, handle: Handle) -> Reply:
        request: Any = handle.request
        del self._jobs[handle]
        try:
            states, handle.forwarded, alone = self.engine.hidden(
                request.prefix, request.start, request.layers, handle.owner
            )
            handle.spared = alone - handle.forwarded
        except RainError as error:
            return Reply(handle, error=error)
        if handle.forwarded:
            self._count(handle.forwarded)
        return Reply(handle, value=states)

    def _count(self, forwarded: int) -> None:
        counters = self.counters
        counters.forward_passes += forwarded > 0  # what is answered from the cache runs no forward
        counters.tokens_forwarded += forwarded
        counters.kv_slots = self.engine.slots_used
        counters.peak_kv_slots = max(counters.peak_kv_slots, counters.kv_slots)

    @in_turn
    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        if self._engine is not None:
            self._engine.retain(owner, prefixes)
            self.counters.kv_slots = self._engine.slots_used

    @in_turn
    def finish(self, owner: int, keep: Iterable[Tokens] = ()) -> None:
        self._steering.pop(owner, None)
        if self._engine is not None:
            self._engine.finish(owner, keep)
            self.counters.kv_slots = self._engine.slots_used

    @in_turn
    def pin(self, tokens: Tokens) -> None:
        self.counters.uncharged_prefix_tokens += self.engine.pin(tokens)
        self.counters.kv_slots = self.engine.slots_used

    @in_turn
    def clear(self) -> None:
        if self._engine is not None:
            self._engine.clear()
            self.counters.kv_slots = self._engine.slots_used


def _not_a_number(name: str) -> NumericalError:
    return NumericalError(
        f"{name} returned NaN, or ruled out every token",
        hint="try dtype=float32 or another attn_implementation",
    )
