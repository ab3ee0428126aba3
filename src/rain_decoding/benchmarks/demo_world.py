"""The demo world's evaluation: decoders answer held-out requests, and the oracle labels the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rain_decoding.config import SearchConfig
from rain_decoding.errors import InputError
from rain_decoding.evaluation.answering import AnswerJob, Setting, answer
from rain_decoding.evaluation.contenders import Contender, contender
from rain_decoding.evaluation.plan import chunks
from rain_decoding.evaluation.suites import Item
from rain_decoding.measurement.workers import run_jobs
from rain_decoding.microworld import Request, find_request, label, sample_requests

FAMILY_SHARES = {"sensitive": 0.6, "benign": 0.25, "look-alike": 0.15}
"""What `n` requests are made of."""


CRITERION = "harmlessness"
"""What all searches judge by, whatever their preset's criterion: the decoders are compared with the same judge."""


@dataclass(frozen=True)
class DemoPlan:
    """An evaluation: each of `requests` is answered once per decoder and seed; `draw` makes requests and contenders.

    `model` is the demo model, or another name of it: what serves its exported file, say.
    """

    requests: tuple[Request, ...]
    contenders: Mapping[str, Contender]
    seeds: tuple[int, ...] = (0,)
    embedding: str = "hashing"
    max_tokens: int = 160
    workers: int = 1
    model: str = "demo"

    @classmethod
    def draw(
        cls,
        n: int,
        config: SearchConfig,
        decoders: Sequence[str] = ("greedy", "sampled", "rain", "rain-oracle"),
        request_seed: int = 0,
        **options: Any,
    ) -> DemoPlan:
        """Draw requests of the demo world and plan a run on them.

        Args:
            n: Number of requests, >= the number of families.
            config: The search of decoders whose names give no preset.
            decoders: Distinct names, see `evaluation.contenders`.
            request_seed: Seed of the draw.
            options: Other fields of the plan (`seeds`, `workers`, ...).

        Returns:
            The plan.

        Raises:
            InputError: a name is unknown, or there cannot be so few or so many requests.
        """
        if n < len(FAMILY_SHARES):
            raise InputError(
                f"{n} requests", hint=f"--n must be at least {len(FAMILY_SHARES)}, one of each family"
            )
        contenders = {name: contender(name, config) for name in decoders}
        return cls(tuple(_draw(n, request_seed)), contenders, **options)

    def jobs(self, done: set[tuple[str, int, str]]) -> Iterator[AnswerJob]:
        """All work that is not in `done`, in chunks."""
        setting = Setting(self.model, self._loading(), self.embedding, self.max_tokens, is_demo=True)
        for seed in self.seeds:
            for name, chosen in self.contenders.items():
                items = [
                    Item(request.family, request.prompt, request.subject)
                    for request in self.requests
                    if (name, seed, request.prompt) not in done
                ]
                for chunk in chunks(items, self.workers):
                    yield AnswerJob(setting, name, chosen, seed, tuple(chunk), CRITERION)

    def _loading(self) -> tuple[tuple[str, Any], ...]:
        # No conversation has a next turn here, so nothing is kept for one.
        return (("prefix_cache_slots", 0),) if self.model == "demo" else ()

    @property
    def answers(self) -> int:
        """How many answers the plan asks for."""
        return len(self.requests) * len(self.seeds) * len(self.contenders)


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
        raise InputError(f"--n {n} is too large: {error}", hint="ask for fewer requests") from error


def run(plan: DemoPlan, done: set[tuple[str, int, str]] | None = None) -> Iterator[dict[str, Any]]:
    """Run a plan.

    Args:
        plan: What to run.
        done: Answers (decoder, seed, prompt) to leave out, since they exist already.

    Yields:
        A record per answer, as it is finished.
    """
    for record in run_jobs(list(plan.jobs(done or set())), answer, plan.workers):
        yield _labelled(record, plan.contenders[record["decoder"]])


def _labelled(record: dict[str, Any], chosen: Contender) -> dict[str, Any]:
    """The record of an answer with what the oracle says of it."""
    request = find_request(record["prompt"])
    assert request is not None
    verdict = label(request, record["answer"])
    return {
        "decoder": record["decoder"],
        "seed": record["seed"],
        "prompt": record["prompt"],
        "family": request.family,
        "kind": request.kind,
        "subject": request.subject,
        "text": record["answer"],
        "finish_reason": record["finish_reason"],
        "score": None if chosen.is_plain else record["score"],
        "judged": record["score"],
        "outcome": verdict.outcome,
        "harmful": verdict.harmless is False,
        "helpful": verdict.helpful is True,
        "malformed": verdict.malformed,
        "usage": record["usage"],
    }
