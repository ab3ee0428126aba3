"""Suites: where an evaluation's prompts come from and what is asked about the answers; and their registry."""

from __future__ import annotations

from rain_decoding.errors import InputError
from rain_decoding.evaluation.suites import (
    advbench,
    demo,
    everyday,
    hh,
    imdb,
    jailbreakbench,
    truthfulqa,
    xstest,
)
from rain_decoding.evaluation.suites.base import Axis, Family, Item, Metric, Source, Suite
from rain_decoding.plugins import Registry

SUITES: Registry[Suite] = Registry(
    "rain_decoding.suites",
    Suite,
    [module.SUITE for module in (demo, hh, advbench, jailbreakbench, truthfulqa, imdb, xstest, everyday)],
)


def load_suite(name: str) -> Suite:
    """The suite called `name`. Raises `InputError` naming those there are."""
    if name not in SUITES:
        raise InputError(f"unknown suite {name!r}", hint=f"suites: {', '.join(SUITES)}")
    return SUITES[name]


__all__ = ["SUITES", "Axis", "Family", "Item", "Metric", "Source", "Suite", "load_suite"]
