"""The three measurements of `rain bench`, each from what is asked to the report's results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed import measuring
from rain_decoding.benchmarks.speed.contenders import Contender, torch_model
from rain_decoding.benchmarks.speed.engine_speed import engine_speed
from rain_decoding.benchmarks.speed.machine import bytes_per_slot, describe, describe_model
from rain_decoding.benchmarks.speed.measurement import Measurement
from rain_decoding.benchmarks.speed.report import fits, summarise
from rain_decoding.benchmarks.speed.shards import Shards
from rain_decoding.benchmarks.speed.turns import converse

if TYPE_CHECKING:
    from rain_decoding.benchmarks.speed.sweep import Sweep

Item = TypeVar("Item")
Tracked = Callable[[Iterable[Item], int], Iterable[Item]]
"""Passes items on and shows how many of how many there were."""


def compare(
    plan: measuring.SpeedPlan,
    contenders: Sequence[Contender],
    backend: LocalBackend,
    tracked: Tracked,
    shards: Shards | None = None,
) -> dict[str, Any]:
    """Contenders side by side on the same prompts; lines against length where several were asked for."""
    model, units = torch_model(backend), plan.units(backend)
    speed = engine_speed(backend, plan.seed)
    running = measuring.run(units, contenders, model, repeats=plan.repeats, seed=plan.seed, shards=shards)
    samples: list[Measurement] = []
    total = len(units) * len(contenders) * plan.repeats
    try:
        samples.extend(tracked(running, total))
    except KeyboardInterrupt:  # what was measured counts
        if not samples:
            raise
    results = summarise(samples, bytes_per_slot(model))
    return {
        "mode": "compare",
        "machine": describe(backend),
        "engine": speed,
        "results": results,
        "fits": fits(samples),
        **({"note": f"stopped after {len(samples)} of {total} measurements"} if len(samples) < total else {}),
    }


def turns(
    plan: measuring.SpeedPlan, contenders: Sequence[Contender], backend: LocalBackend, tracked: Tracked
) -> dict[str, Any]:
    """One conversation with each contender, whose turns are the prompts of the plan's first family."""
    model = torch_model(backend)
    prompts = next(iter(plan.families.values()))
    options = {"max_tokens": plan.max_tokens[0], "seed": plan.seed}
    taken = (
        turn for contender in contenders for turn in converse(contender, prompts, backend, model, **options)
    )
    results = list(tracked(taken, len(prompts) * len(contenders)))
    return {"mode": "turns", "machine": describe(backend), "results": results}


def replay(asked: Sweep, model: Any, tracked: Tracked) -> dict[str, Any]:
    """Searches recorded without a model, replayed on this one beside plain decoding."""
    from rain_decoding.benchmarks.speed import sweep

    context = model.config.max_position_embeddings
    rounds = list(tracked(sweep.record(asked, context), asked.rounds))
    running = sweep.run(rounds, model, context, asked.repeats)
    samples: list[Measurement] = list(tracked(running, asked.rounds * len(asked.contenders) * asked.repeats))
    results = summarise(samples, bytes_per_slot(model))
    return {"mode": "replay", "machine": describe_model(model), "note": sweep.NOTE, "results": results}
