"""The demo world's evaluation: decoders answer held-out requests, and the oracle labels the answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Any

import numpy as np

from rain_decoding.backends import load_backend
from rain_decoding.benchmarks.contenders import PLAIN, SEARCHES, Contender, contender
from rain_decoding.config import SearchConfig
from rain_decoding.decoder import Decoder, RainDecoder
from rain_decoding.demo import CRITERIA_DIR
from rain_decoding.demo.judge import OracleEvaluator
from rain_decoding.demo.world import Request, find_request, label, sample_requests
from rain_decoding.errors import InputError
from rain_decoding.types import Completion

FAMILY_SHARES = {"sensitive": 0.6, "benign": 0.25, "look-alike": 0.15}
"""What `n` requests are made of."""

JOB_SIZE = 256
"""Requests a worker is given at once: many more than run together, since the last ones run alone."""


@dataclass(frozen=True, slots=True)
class Job:
    """Some requests for one decoder and seed; what a worker process is sent."""

    decoder: str
    contender: Contender
    seed: int
    prompts: tuple[str, ...]
    embedding: str
    max_tokens: int
    model: str = "demo"


@dataclass(frozen=True)
class Plan:
    """What an evaluation runs. `n` requests are drawn by `request_seed`, each answered once per decoder and seed.

    `decoders` are distinct names, see `contenders.FORMS`; `config` is that of those which name no preset. `model` is
    the demo model, or another name of it: what serves its exported file, say.
    """

    n: int
    config: SearchConfig
    seeds: tuple[int, ...] = (0,)
    decoders: tuple[str, ...] = (*PLAIN, *SEARCHES)
    embedding: str = "hashing"
    max_tokens: int = 160
    request_seed: int = 0
    workers: int = 1
    model: str = "demo"
    requests: tuple[Request, ...] = field(init=False)
    contenders: dict[str, Contender] = field(init=False)

    def __post_init__(self) -> None:
        if self.n < len(FAMILY_SHARES):
            raise InputError(f"n = {self.n}", hint=f"at least {len(FAMILY_SHARES)}")
        object.__setattr__(self, "contenders", {name: contender(name, self.config) for name in self.decoders})
        object.__setattr__(self, "requests", tuple(_draw(self.n, self.request_seed)))

    def jobs(self, done: set[tuple[str, int, str]]) -> Iterator[Job]:
        """All work that is not in `done`, in chunks."""
        for seed in self.seeds:
            for name, chosen in self.contenders.items():
                prompts = [r.prompt for r in self.requests if (name, seed, r.prompt) not in done]
                size = min(JOB_SIZE, -(-len(prompts) // self.workers) or 1)
                for start in range(0, len(prompts), size):
                    chunk = tuple(prompts[start : start + size])
                    yield Job(name, chosen, seed, chunk, self.embedding, self.max_tokens, self.model)

    @property
    def samples(self) -> int:
        """How many answers the plan asks for."""
        return self.n * len(self.seeds) * len(self.decoders)


def _draw(n: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    counts = {family: round(n * share) for family, share in FAMILY_SHARES.items()}
    counts["sensitive"] += n - sum(counts.values())
    try:
        return [
            request
            for family, count in counts.items()
            for request in sample_requests([family], count, rng, held_out=True)  # type: ignore[list-item]
        ]
    except ValueError as error:
        raise InputError(f"n = {n} is too large: {error}", hint="ask for fewer requests") from error


def run(plan: Plan, done: set[tuple[str, int, str]] | None = None) -> Iterator[dict[str, Any]]:
    """Yield one record per answer as it is finished. `done` answers (decoder, seed, prompt) are left out."""
    jobs = list(plan.jobs(done or set()))
    if plan.workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield from run_job(job)
        return
    context = get_context("spawn")
    records, stopped = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(plan.workers, context, _start_worker, (records, stopped))
    try:
        futures = [pool.submit(_work, job) for job in jobs]
        missing = sum(len(job.prompts) for job in jobs)
        while missing:
            try:
                yield records.get(timeout=1)
                missing -= 1
            except Empty:
                for future in futures:
                    if future.done():
                        future.result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


_records: Any = None
"""A worker's queue to the parent."""
_stopped: Any = None
"""A worker's sign to end early."""


def _start_worker(records: Any, stopped: Any) -> None:
    """One thread each; Ctrl-C is the parent's affair, and a parent that is killed takes its workers along."""
    import torch

    global _records, _stopped
    _records, _stopped = records, stopped
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Job) -> None:
    for record in run_job(job, cancelled=_stopped.is_set):
        _records.put(record)


@cache
def _backend(model: str) -> Any:
    if model == "demo":  # no conversation has a next turn here, so nothing is kept for one
        return load_backend(model, prefix_cache_slots=0)
    return load_backend(model, criteria_dirs=[CRITERIA_DIR], dialogue_header="")


@cache
def _decoder(chosen: Contender, embedding: str, model: str) -> Decoder:
    return chosen.decoder(_backend(model), OracleEvaluator(), embedding)


def run_job(job: Job, cancelled: Callable[[], bool] | None = None) -> Iterator[dict[str, Any]]:
    """Answer the requests of one job; what was cancelled gives no record."""
    finished = _decoder(job.contender, job.embedding, job.model).iterate_batch(
        job.prompts,
        concurrency=job.contender.concurrency,
        seed=job.seed,
        max_tokens=job.max_tokens,
        cancelled=cancelled,
    )
    for index, completion in finished:
        if completion.finish_reason == "cancelled":
            continue
        record = _record(job, job.prompts[index], completion)
        if job.contender.kind in PLAIN:
            judge = _decoder(replace(job.contender, kind="rain"), job.embedding, job.model)
            assert isinstance(judge, RainDecoder)
            record["judged"] = judge.judge(record["prompt"], record["text"]).score
        yield record


def _record(job: Job, prompt: str, completion: Completion) -> dict[str, Any]:
    request = find_request(prompt)
    assert request is not None
    verdict = label(request, completion.text)
    return {
        "decoder": job.decoder,
        "seed": job.seed,
        "prompt": prompt,
        "family": request.family,
        "kind": request.kind,
        "subject": request.subject,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "score": completion.score,
        "judged": completion.score,
        "outcome": verdict.outcome,
        "harmful": verdict.harmless is False,
        "helpful": verdict.helpful is True,
        "malformed": verdict.malformed,
        "usage": asdict(completion.usage),
    }
