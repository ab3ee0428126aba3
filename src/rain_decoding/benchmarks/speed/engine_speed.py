"""How fast an engine reads a prompt and decodes, apart from any search."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

from rain_decoding.backends.local import LocalBackend
from rain_decoding.types import Tokens

PROMPT, ANSWER, ROUNDS = 256, 24, 3


def engine_speed(backend: LocalBackend, seed: int = 0) -> dict[str, Any]:
    """Tokens per second of prefill (`PROMPT` new tokens at once) and of decoding (`ANSWER` behind them, one by one).

    Tokens are drawn by `seed`; medians of `ROUNDS` after one that does not count. The cache is empty afterwards but for
    what is pinned.
    """
    rng = np.random.default_rng(seed)
    length = min(PROMPT, backend.context_length - ANSWER)
    drawn = rng.integers(0, backend.engine.vocabulary_size, (ROUNDS + 1, length + ANSWER))
    measured = [speed_of(backend, tuple(map(int, text))) for text in drawn]
    prefill, decode = (median(values) for values in zip(*measured[1:], strict=True))
    return {
        "prompt_tokens": length,
        "prefill_per_second": round(prefill, 1),
        "decode_per_second": round(decode, 2),
    }


def speed_of(backend: LocalBackend, text: Tokens) -> tuple[float, float]:
    """Tokens per second of reading all of `text` but its last `ANSWER` tokens at once, and of those one by one."""
    engine, owner = backend.engine, backend.new_owner()
    length = len(text) - ANSWER
    times = [time.perf_counter()]
    for end in range(length, len(text) + 1):
        engine.forward([text[:end]], [owner])
        times.append(time.perf_counter())
    engine.finish(owner, ())
    backend.clear()
    return length / (times[1] - times[0]), ANSWER / (times[-1] - times[1])
