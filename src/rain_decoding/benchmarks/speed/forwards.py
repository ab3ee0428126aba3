"""Counts and times a model's forwards from outside, for every engine and for `generate` alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Forwards:
    """Forwards of one model so far. `tokens` counts every token of every row, padding included."""

    passes: int = 0
    tokens: int = 0
    marks: list[tuple[Any, Any]] = field(default_factory=list)
    """Begin and end of each pass: seconds, or CUDA events, which do not hold up the device."""

    def seconds(self) -> float:
        """Time inside the forwards."""
        if self.marks and isinstance(self.marks[0][0], torch.cuda.Event):
            torch.cuda.synchronize()
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


def _mark(device: torch.device) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event
