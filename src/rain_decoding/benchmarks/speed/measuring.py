"""Runs contenders side by side: every prompt, every repeat, in an order that changes with both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.benchmarks.speed.contenders import Contender
from rain_decoding.benchmarks.speed.measurement import Case, Key, Measurement
from rain_decoding.benchmarks.speed.prompts import Families, conversation
from rain_decoding.benchmarks.speed.shards import Shards
from rain_decoding.benchmarks.speed.unit import WARM_UP_TOKENS, Unit, measure
from rain_decoding.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedPlan:
    """What is measured: every combination of the lists, `repeats` times.

    `prompt_tokens` are the least lengths of the prompts, reached by earlier turns (0: as they are). With a
    `concurrency` of 1 every prompt is a unit of its own, else all prompts of a family are one.
    Raises `InputError` for values out of range.
    """

    families: Families
    max_tokens: tuple[int, ...] = (160,)
    prompt_tokens: tuple[int, ...] = (0,)
    concurrency: tuple[int, ...] = (1,)
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("prompt_tokens", 0), ("concurrency", 1)):
            if min(getattr(self, name), default=-1) < least:
                raise InputError(
                    f"{name} = {getattr(self, name)}", hint=f"use one or more whole numbers >= {least}"
                )
        if self.repeats < 1:
            raise InputError(f"repeats = {self.repeats}", hint="use a whole number >= 1")

    def units(self, backend: Backend) -> list[Unit]:
        """All units, their prompts as long as asked for with this backend's tokenizer."""
        return [
            unit
            for lengths in product(self.max_tokens, self.prompt_tokens, self.concurrency)
            for family, prompts in self.families.items()
            for unit in self._units(family, prompts, backend, *lengths)
        ]

    def _units(
        self, family: str, prompts: list[str], backend: Backend, answer: int, least: int, concurrency: int
    ) -> Iterator[Unit]:
        case: Case = (
            ("family", family),
            ("max_tokens", answer),
            ("prompt_tokens", least),
            ("concurrency", concurrency),
        )
        asked = [conversation(prompt, number, least, backend) for number, prompt in enumerate(prompts)]
        size = 1 if concurrency == 1 else len(asked)
        for number, begin in enumerate(range(0, len(asked), size)):
            yield Unit(case, number, tuple(asked[begin : begin + size]), answer, concurrency)


def run(
    units: Sequence[Unit],
    contenders: Sequence[Contender],
    model: Any,
    *,
    repeats: int,
    seed: int,
    shards: Shards | None = None,
    done: Collection[Key] = (),
) -> Iterator[Measurement]:
    """Measure contenders on the same units.

    Args:
        units: Prompts, or batches of prompts answered together.
        contenders: What to measure.
        model: The model that all of them run.
        repeats: Measurements per unit and contender, >= 1, after a first one that does not count.
        seed: Seed of decoding.
        shards: Processes for units of several prompts; None: this process.
        done: What was measured before, and is not again.

    Yields:
        A measurement per unit, contender and repeat.
    """
    for contender in contenders:
        contender.answer(units[0].prompts[:1], max_tokens=WARM_UP_TOKENS, concurrency=1, seed=seed)
        if shards is not None:
            shards.warm_up(contender.name, units[0], seed)
    for repeat in range(repeats):
        for position, unit in enumerate(units):
            turn = (repeat + position) % len(contenders)
            for contender in (*contenders[turn:], *contenders[:turn]):
                if (unit.case, contender.name, unit.number, repeat) in done:
                    continue
                if shards is not None and unit.concurrency > 1:
                    yield shards.measure(contender.name, unit, repeat=repeat, seed=seed)
                else:
                    yield measure(contender, unit, model, repeat=repeat, seed=seed)
