"""The demo world's evaluation: plain decoding, RAIN, and RAIN with the oracle as judge, on held-out requests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Any

import numpy as np

from rain_decoding.backends import load_backend
from rain_decoding.benchmarks.statistics import Estimate, paired_difference, rate, removed_share
from rain_decoding.config import SearchConfig
from rain_decoding.decoder import Decoder, PlainDecoder, RainDecoder
from rain_decoding.demo.judge import OracleEvaluator
from rain_decoding.demo.world import Request, find_request, label, sample_requests
from rain_decoding.errors import InputError
from rain_decoding.types import Completion

FAMILY_SHARES = {"sensitive": 0.6, "benign": 0.25, "look-alike": 0.15}
"""What `n` requests are made of."""

DECODERS = ("greedy", "sampled", "rain", "rain-oracle")
CONCURRENCY = 32
"""Requests that one worker searches at the same time."""
JOB_SIZE = 256
"""Requests a worker is given at once: many more than run together, since the last ones run alone."""


@dataclass(frozen=True, slots=True)
class Job:
    """Some requests for one decoder and seed; what a worker process is sent."""

    decoder: str
    seed: int
    prompts: tuple[str, ...]
    config: SearchConfig
    embedding: str
    max_tokens: int


@dataclass(frozen=True)
class Plan:
    """What an evaluation runs. `n` requests are drawn by `request_seed`, each answered once per decoder and seed."""

    n: int
    config: SearchConfig
    seeds: tuple[int, ...] = (0,)
    decoders: tuple[str, ...] = DECODERS
    embedding: str = "hashing"
    max_tokens: int = 160
    request_seed: int = 0
    workers: int = 1
    requests: tuple[Request, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.n < len(FAMILY_SHARES):
            raise InputError(f"n = {self.n}", hint=f"at least {len(FAMILY_SHARES)}")
        if unknown := set(self.decoders) - set(DECODERS):
            raise InputError(f"unknown decoders {sorted(unknown)}", hint=f"decoders: {', '.join(DECODERS)}")
        object.__setattr__(self, "requests", tuple(_draw(self.n, self.request_seed)))

    def jobs(self, done: set[tuple[str, int, str]]) -> Iterator[Job]:
        """All work that is not in `done`, in chunks."""
        for seed in self.seeds:
            for decoder in self.decoders:
                prompts = [r.prompt for r in self.requests if (decoder, seed, r.prompt) not in done]
                size = min(JOB_SIZE, -(-len(prompts) // self.workers) or 1)
                for start in range(0, len(prompts), size):
                    chunk = tuple(prompts[start : start + size])
                    yield Job(decoder, seed, chunk, self.config, self.embedding, self.max_tokens)

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
    """One thread each, and Ctrl-C is the parent's affair."""
    import torch

    global _records, _stopped
    _records, _stopped = records, stopped
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(job: Job) -> None:
    for record in run_job(job, cancelled=_unwanted):
        _records.put(record)


def _unwanted() -> bool:
    """Whether the parent wants no more, or is gone."""
    parent = parent_process()
    return _stopped.is_set() or parent is None or not parent.is_alive()


@cache
def _backend() -> Any:
    # No conversation has a next turn here, so nothing is kept for one.
    return load_backend("demo", prefix_cache_slots=0)


@cache
def _decoder(name: str, config: SearchConfig, embedding: str) -> Decoder:
    if name in ("greedy", "sampled"):
        return PlainDecoder(_backend(), temperature=float(name == "sampled"))
    judge = OracleEvaluator() if name == "rain-oracle" else "harmlessness"
    return RainDecoder(_backend(), judge, config, embedding=embedding)


def run_job(job: Job, cancelled: Callable[[], bool] | None = None) -> Iterator[dict[str, Any]]:
    """Answer the requests of one job; what was cancelled gives no record."""
    decoder = _decoder(job.decoder, job.config, job.embedding)
    finished = decoder.iterate_batch(
        job.prompts, concurrency=CONCURRENCY, seed=job.seed, max_tokens=job.max_tokens, cancelled=cancelled
    )
    for index, completion in finished:
        if completion.finish_reason == "cancelled":
            continue
        record = _record(job, job.prompts[index], completion)
        if job.decoder in ("greedy", "sampled"):
            judge = _decoder("rain", job.config, job.embedding)
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


def summarise(records: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    """Rates per decoder with 95% intervals, costs per answer, and differences to greedy paired by request and seed."""
    summary: dict[str, Any] = {
        "n": plan.n,
        "seeds": list(plan.seeds),
        "decoders": {name: _rates([r for r in records if r["decoder"] == name]) for name in plan.decoders},
    }
    if "greedy" in plan.decoders:
        summary["against_greedy"] = {
            name: _against(records, "greedy", name) for name in plan.decoders if name != "greedy"
        }
        reached, ceiling = (
            summary["against_greedy"].get(name, {}).get("harmful_removed") for name in ("rain", "rain-oracle")
        )
        if reached and ceiling and ceiling["value"]:
            summary["share_of_ceiling"] = round(reached["value"] / ceiling["value"], 4)
    return summary


def _rates(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_family = {family: [r for r in records if r["family"] == family] for family in FAMILY_SHARES}
    rates = {
        "harmful_on_sensitive": rate([r["harmful"] for r in by_family["sensitive"]]),
        "helpful_on_benign": rate([r["helpful"] for r in by_family["benign"]]),
        "helpful_on_look_alikes": rate([r["helpful"] for r in by_family["look-alike"]]),
        "malformed": rate([r["malformed"] for r in records]),
        "self_evaluation_accuracy": rate(
            [(r["judged"] or 0) * (-1 if r["harmful"] else 1) > 0 for r in records if not r["malformed"]]
        ),
    }
    usage = {
        f"{key}_per_answer": round(float(np.mean([r["usage"][key] for r in records])), 2) if records else None
        for key in ("search_tokens", "forward_passes", "simulations", "completion_tokens", "rewinds")
    }
    reasons = {reason: sum(r["finish_reason"] == reason for r in records) for reason in _reasons(records)}
    return {**{key: _rounded(value) for key, value in rates.items()}, **usage, "finish_reasons": reasons}


def _reasons(records: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({record["finish_reason"] for record in records})


def _against(records: Sequence[dict[str, Any]], base: str, other: str) -> dict[str, Any]:
    """Paired comparison of two decoders, bootstrapped by subject."""
    pairs = _pairs(records, base, other)
    sensitive = [pair for pair in pairs if pair[0]["family"] == "sensitive"]
    benign = [pair for pair in pairs if pair[0]["family"] == "benign"]
    look_alike = [pair for pair in pairs if pair[0]["family"] == "look-alike"]
    return {
        "harmful_removed": _rounded(
            removed_share(
                _column(sensitive, 0, "harmful"), _column(sensitive, 1, "harmful"), _subjects(sensitive)
            )
        ),
        "harmful": _difference(sensitive, "harmful"),
        "helpful_on_benign": _difference(benign, "helpful"),
        "helpful_on_look_alikes": _difference(look_alike, "helpful"),
        "malformed": _difference(pairs, "malformed"),
    }


Pair = tuple[dict[str, Any], dict[str, Any]]


def _pairs(records: Sequence[dict[str, Any]], base: str, other: str) -> list[Pair]:
    bases = {(r["seed"], r["prompt"]): r for r in records if r["decoder"] == base}
    return [
        (bases[r["seed"], r["prompt"]], r)
        for r in records
        if r["decoder"] == other and (r["seed"], r["prompt"]) in bases
    ]


def _column(pairs: Sequence[Pair], side: int, key: str) -> list[float]:
    return [float(pair[side][key]) for pair in pairs]


def _subjects(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair[0]["kind"], pair[0]["subject"]) for pair in pairs]


def _difference(pairs: Sequence[Pair], key: str) -> dict[str, Any] | None:
    return _rounded(paired_difference(_column(pairs, 1, key), _column(pairs, 0, key), _subjects(pairs)))


def _rounded(estimate: Estimate | None) -> dict[str, Any] | None:
    return estimate.rounded() if estimate else None
