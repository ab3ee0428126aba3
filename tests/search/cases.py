"""The searches that are compared with the brute-force reference: a world, a preset and changes, by number."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

from reference.brute_force import PRESETS, RefRun
from reference.worlds import RandomWorld, random_world
from search.driver import Run, differences, preset_config, preset_rules, run_package, run_reference

from rain_decoding.config import SearchConfig

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "-similarity": {"similarity": False},
    "-widening": {"widening": False},
    "-exploration": {"exploration": 0.0},
    "-all": {"similarity": False, "widening": False, "exploration": 0.0},
}
PRESET_NAMES = tuple(PRESETS)
CASES = 480
UNCHANGED = 24
"""The first cases run the presets as they are, with no other number changed."""


@dataclass(frozen=True)
class Case:
    """One search: what `number` stands for."""

    number: int
    world: RandomWorld
    preset: str
    ablation: str
    changes: dict[str, Any]
    eager: bool

    @property
    def config(self) -> SearchConfig:
        return preset_config(self.preset, **self.changes, eager_expansion=self.eager)

    def run(self) -> Run:
        """The package's search."""
        return run_package(self.world, self.config)

    def reference(self) -> RefRun:
        """The reference's search, run once."""
        return _reference(self.number)

    def differences(self, run: Run | None = None) -> list[str]:
        """What the package does otherwise than the reference."""
        return differences(run or self.run(), self.reference(), embeddings=self.config.needs_embeddings)


@cache
def case(number: int) -> Case:
    """Case `number`: all presets times all ablations in turn, the rest drawn."""
    rng = random.Random(f"case {number}")
    preset = PRESET_NAMES[number % 4]
    if number < UNCHANGED:
        return Case(number, random_world(number, max_tokens=12), preset, "full", {}, eager=False)
    ablation = list(ABLATIONS)[number % 5]
    kinds: dict[str, str] = {}
    if number % 3 == 0:
        kinds = {
            "judge": rng.choice(("bad", "mostly bad", "depth")),
            "embed": rng.choice(("near", "identical")),
        }
    changes: dict[str, Any] = {
        "max_simulations": rng.choice((8, 20, 20, 50)),
        "extra_simulations": rng.choice((1, 5, 15)),
        "candidates": rng.choice((1, 2, 3, 5, 8, 10)),
        "max_children": rng.choice((3, 6, 20)),
        "min_evaluations": rng.choice((0, 2, 5, 16)),
        "value_threshold": rng.choice((0.8, 0.0, -0.5)),
        "top_k": rng.choice((1, 2, 3, 15, 15)),
        **ABLATIONS[ablation],
    }
    if rng.random() < 0.2:
        changes["lengths"] = rng.choice(((1,), (1, 1, 3), (2,), (1, 2)))
    if rng.random() < 0.3:
        changes["similarity_threshold"] = rng.choice((0.5, 0.8, 0.99))
    return Case(number, random_world(number, **kinds), preset, ablation, changes, eager=rng.random() < 0.3)


@cache
def _reference(number: int) -> RefRun:
    asked = case(number)
    return run_reference(asked.world, preset_rules(asked.preset, **asked.changes))
