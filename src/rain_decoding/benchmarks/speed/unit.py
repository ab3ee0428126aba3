"""What is measured at a time, and how."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rain_decoding.benchmarks.speed.contenders import Contender
from rain_decoding.benchmarks.speed.measurement import Case, Measurement
from rain_decoding.decoding.decoder import PromptLike

WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Unit:
    """Prompts that are measured together; `number` counts the units of a case."""

    case: Case
    number: int
    prompts: tuple[PromptLike, ...]
    max_tokens: int
    concurrency: int


def measure(contender: Contender, unit: Unit, model: Any, *, repeat: int = 0, seed: int = 0) -> Measurement:
    """One contender's work on one unit, from an empty cache. `model` is its torch model, if it has one."""
    contender.reset()
    with contender.counted(model) as forwards:
        started, cpu = time.perf_counter(), time.process_time()
        answered = contender.answer(
            unit.prompts, max_tokens=unit.max_tokens, concurrency=unit.concurrency, seed=seed
        )
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return Measurement(
        case=unit.case,
        contender=contender.name,
        unit=unit.number,
        repeat=repeat,
        answers=len(answered.texts),
        texts=tuple(answered.texts),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        first_release=answered.first_release,
        passes=forwards.passes,
        tokens_forwarded=forwards.tokens,
        tokens_released=answered.tokens_released,
        kv_slots=contender.peak_slots - contender.pinned_slots,
        kv_pinned=contender.pinned_slots,
        model_seconds=forwards.seconds(),
        rewinds=answered.rewinds,
    )
