"""Sharding: several processes, each with the model to itself, share the prompts of a unit.

One forward for all prompts saves the fixed cost of forwards. Once what is left is arithmetic and Python, more prompts
in it gain nothing, and another core does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from types import TracebackType

from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed.contenders import make_contenders, torch_model
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.measurement import Measurement
from rain_decoding.benchmarks.speed.unit import WARM_UP_TOKENS, Unit, measure


class Shards:
    """`workers` >= 1 processes with contenders of these `names`. `load` makes their backend, with `threads` each."""

    def __init__(
        self,
        workers: int,
        load: Callable[[], LocalBackend],
        names: Sequence[str],
        judge: JudgeOptions,
        threads: int,
    ):
        self._pools = [
            ProcessPoolExecutor(1, get_context("spawn"), _start, (load, tuple(names), judge, threads))
            for _ in range(workers)
        ]

    def measure(self, name: str, unit: Unit, *, repeat: int, seed: int) -> Measurement:
        """As `unit.measure`, the prompts dealt out in turn; what the workers count is added up."""
        size = len(self._pools)
        parts = [
            replace(unit, prompts=unit.prompts[start::size], concurrency=-(-unit.concurrency // size))
            for start in range(min(size, len(unit.prompts)))
        ]
        started = time.perf_counter()
        running = [
            pool.submit(_measure, name, part, repeat, seed)
            for pool, part in zip(self._pools, parts, strict=False)
        ]
        samples = [each.result() for each in running]
        seconds = time.perf_counter() - started
        texts = [""] * len(unit.prompts)
        for start, sample in enumerate(samples):
            texts[start::size] = sample.texts
        return Measurement(
            case=unit.case,
            contender=name,
            unit=unit.number,
            repeat=repeat,
            answers=len(texts),
            texts=tuple(texts),
            seconds=seconds,
            model_seconds=sum(each.model_seconds for each in samples) / len(samples),
            passes=sum(each.passes for each in samples),
            tokens_forwarded=sum(each.tokens_forwarded for each in samples),
            tokens_released=sum(each.tokens_released for each in samples),
            kv_slots=sum(each.kv_slots for each in samples),
            kv_pinned=sum(each.kv_pinned for each in samples),
            rewinds=sum(each.rewinds for each in samples),
        )

    def warm_up(self, name: str, unit: Unit, seed: int) -> None:
        """A first answer of every worker that does not count, and all that is loaded for it."""
        first = replace(unit, prompts=unit.prompts[:1], concurrency=1, max_tokens=WARM_UP_TOKENS)
        for started in [pool.submit(_measure, name, first, 0, seed) for pool in self._pools]:
            started.result()

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


_worker: Callable[[str, Unit, int, int], Measurement]
"""What a worker process measures with."""


def _start(
    load: Callable[[], LocalBackend], names: tuple[str, ...], judge: JudgeOptions, threads: int
) -> None:
    global _worker
    backend = load()
    contenders = dict(zip(names, make_contenders(names, backend, judge), strict=True))
    if (model := torch_model(backend)) is not None:
        import torch

        torch.set_num_threads(threads)

    def worker(name: str, unit: Unit, repeat: int, seed: int) -> Measurement:
        return measure(contenders[name], unit, model, repeat=repeat, seed=seed)

    _worker = worker


def _measure(name: str, unit: Unit, repeat: int, seed: int) -> Measurement:
    return _worker(name, unit, repeat, seed)
