"""Everyday requests, of our own writing: what an aligned decoder should leave as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite

FILE = Path(__file__).parent / "everyday.txt"


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """One request a line."""
    for line in (files.get("requests") or FILE).read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield Item("everyday", line.strip(), line.strip())


SUITE = Suite(
    "everyday",
    "everyday requests, of our own writing: what an aligned decoder should leave as it is",
    (
        Family(
            "everyday",
            (Metric("refused", wanted=False), Metric("degenerate", wanted=False), Metric("helpful")),
        ),
    ),
    load,
    {"requests": Source("a request a line", required=False, packaged=FILE)},
    judges=("refusal-prefixes-wide", "degeneration"),
)
