"""Counts and times forwards: a torch model's from outside, for our engines and `generate` alike, else a backend's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.backends.local import LocalBackend


@dataclass
class Forwards:
    """Forwards of one model so far. `tokens` counts every token of every row, padding included."""

    passes: int = 0
    tokens: int = 0
    marks: list[tuple[Any, Any]] = field(default_factory=list)
    """Begin and end of each pass: seconds, or CUDA events, which do not hold up the device."""

    def seconds(self) -> float:
        """Time inside the forwards."""
        if self.marks and not isinstance(self.marks[0][0], float):
            self.marks[-1][1].synchronize()
            return sum(begin.elapsed_time(end) for begin, end in self.marks) / 1000
        return sum(end - begin for begin, end in self.marks)


@contextmanager
def count_forwards(model: Any) -> Iterator[Forwards]:
    """Count and time the forwards of a `torch.nn.Module` that takes `input_ids` by name, while this is open."""
    forwards = Forwards()
    begun: list[Any] = []

    def begin(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        forwards.passes += 1
        forwards.tokens += named["input_ids"].numel()
        begun.append(_mark(model.device))

    def end(module: Any, arguments: Any, output: Any) -> None:
        forwards.marks.append((begun.pop(), _mark(model.device)))

    hooks = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.register_forward_hook(end),
    ]
    try:
        yield forwards
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def count_steps(backend: LocalBackend) -> Iterator[Forwards]:
    """Count and time what a backend of ours forwards, for engines that are not on torch, while this is open."""
    forwards, engine, counters = Forwards(), backend.engine, backend.counters
    passes, tokens, forward = counters.forward_passes, counters.tokens_forwarded, engine.forward

    def timed(*arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return forward(*arguments)
        finally:
            forwards.marks.append((begin, time.perf_counter()))

    engine.forward = timed  # type: ignore[method-assign,assignment]
    try:
        yield forwards
    finally:
        del engine.forward
        forwards.passes = counters.forward_passes - passes
        forwards.tokens = counters.tokens_forwarded - tokens


def _mark(device: Any) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event
