"""Runs jobs in this process or in several, and yields their results as they are made."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Any, Protocol, TypeVar


class Sized(Protocol):
    """A job. It travels to another process, and makes `len(job)` results."""

    def __len__(self) -> int: ...


JobT = TypeVar("JobT", bound=Sized)
Cancelled = Callable[[], bool]
Work = Callable[[JobT, Cancelled | None], Iterator[Any]]
"""Does one job; a function of a module, so that another process finds it. It ends early once cancelled."""


def run_jobs(jobs: Sequence[JobT], work: Work[JobT], workers: int) -> Iterator[Any]:
    """Run jobs, in this process or in several.

    Args:
        jobs: Parts of the work; they travel to other processes by pickle.
        work: Does one job and yields its results; a function of a module.
        workers: Number of processes, >= 1; with one, or with one job, all is done in this process.

    Yields:
        Results as they are made, in no fixed order with several processes.
    """
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield from work(job, None)
        return
    with one_interrupt():
        yield from _run_in_processes(jobs, work, workers)


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Meanwhile only the first Ctrl-C counts: a second one would break off the shutdown that the first began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_in_processes(jobs: Sequence[JobT], work: Work[JobT], workers: int) -> Iterator[Any]:
    context = get_context("spawn")
    results, stopped = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (results, stopped))
    try:
        futures = [pool.submit(_do, work, job) for job in jobs]
        missing = sum(len(job) for job in jobs)
        while missing:
            try:
                yield results.get(timeout=1)
                missing -= 1
            except Empty:
                for future in futures:
                    if future.done():
                        future.result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


_results: Any = None
"""A worker's queue to the parent."""
_stopped: Any = None
"""A worker's sign to end early."""


def _start_worker(results: Any, stopped: Any) -> None:
    """One thread each; Ctrl-C is the parent's affair, and a parent that is killed takes its workers along."""
    import torch

    global _results, _stopped
    _results, _stopped = results, stopped
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(work: Work[JobT], job: JobT) -> None:
    for result in work(job, _stopped.is_set):
        _results.put(result)
