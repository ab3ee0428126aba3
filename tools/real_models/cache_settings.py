#!/usr/bin/env python3
"""What a step costs by llama.cpp's settings and what else is held: `python -m real_models.cache_settings FILE.gguf...`.

Milliseconds of forwarding one token of one text, and one of each of eight: beside nothing else, and beside tokens of
finished conversations in the prefix cache.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rain_decoding import load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.types import Tokens

SETTINGS: dict[str, dict[str, Any]] = {
    "f32, off": {"kv_dtype": "f32", "flash_attention": False},
    "f32, on": {"kv_dtype": "f32", "flash_attention": True},
    "f16, off": {"kv_dtype": "f16", "flash_attention": False},
    "f16, on": {"kv_dtype": "f16", "flash_attention": True},
}
TEXT, STEPS, BRANCHES, HELD = 60, 12, 8, (0, 1000, 3000)


def texts(rng: np.random.Generator, vocabulary: int, count: int, length: int) -> list[Tokens]:
    """Drawn tokens."""
    return [tuple(map(int, row)) for row in rng.integers(0, vocabulary, (count, length))]


def milliseconds(backend: LocalBackend, branches: int, rng: np.random.Generator) -> float:
    """The median of `STEPS` steps of so many texts at once, one token each."""
    engine = backend.engine
    drawn = texts(rng, engine.vocabulary_size, branches, TEXT + STEPS)
    owners = [backend.new_owner() for _ in drawn]
    engine.forward([text[:TEXT] for text in drawn], owners)
    times = []
    for end in range(TEXT + 1, TEXT + STEPS + 1):
        started = time.perf_counter()
        engine.forward([text[:end] for text in drawn], owners)
        times.append(time.perf_counter() - started)
    for owner in owners:
        engine.finish(owner, ())
    return 1000 * median(times)


def hold(backend: LocalBackend, tokens: int, rng: np.random.Generator) -> None:
    """Leave so many tokens of finished conversations in the prefix cache."""
    backend.clear()
    for (text,) in (texts(rng, backend.engine.vocabulary_size, 1, 500) for _ in range(tokens // 500)):
        owner = backend.new_owner()
        backend.engine.forward([text], [owner])
        backend.engine.finish(owner, [text])


def rows(model: Path, threads: int, seed: int) -> Iterator[list[str]]:
    """Cells of one setting after the other."""
    for name, options in SETTINGS.items():
        backend = load_backend(f"gguf:{model}", threads=threads, prefix_cache_slots=max(HELD), **options)
        assert isinstance(backend, LocalBackend)
        rng = np.random.default_rng(seed)
        found: dict[int, list[str]] = {1: [], BRANCHES: []}
        for held in HELD:
            hold(backend, held, rng)
            for branches, cells in found.items():
                cells.append(f"{milliseconds(backend, branches, rng):.3g}")
        yield [model.stem, name, *(", ".join(cells) for cells in found.values())]
        backend.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, each row as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(f"tokens held: {', '.join(map(str, HELD))}\n")
    print(f"| model | keys, flash attention | one token, ms | {BRANCHES} texts, ms |\n|---|---|---|---|")
    for model in options.models:
        for cells in rows(model, options.threads, options.seed):
            print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
