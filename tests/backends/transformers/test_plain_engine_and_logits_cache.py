"""The engine without a cache, and the bounded memory of logits."""

from __future__ import annotations

import numpy as np
import pytest
from backends.transformers import tiny

from rain_decoding.backends.logits_cache import LogitsCache
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.bounded import ENTRY_BYTES


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@pytest.mark.parametrize("max_step_tokens", [2048, 12, 1])
def test_plain_forwards_in_batches_of_equal_length(kind, max_step_tokens):
    engine = PlainEngine(tiny.model(kind), 128, max_step_tokens=max_step_tokens)
    sequences = [tiny.tokens(length, seed) for seed, length in enumerate([6, 4, 6, 6, 4, 9])]
    logits, counts, _ = engine.forward(sequences, [1] * 6)
    assert counts == [6, 4, 6, 6, 4, 9]
    for row, sequence in zip(logits, sequences, strict=True):
        assert np.abs(row - tiny.plain(kind, sequence)).max() <= 1e-4


def test_the_least_recently_used_logits_go_first():
    rows = {name: np.full(4, value, dtype=np.float32) for value, name in enumerate("abc")}
    cache: LogitsCache[str] = LogitsCache(max_bytes=2 * (rows["a"].nbytes + ENTRY_BYTES))
    cache.put("a", rows["a"])
    cache.put("b", rows["b"])
    assert cache.get("a") is not None
    cache.put("c", rows["c"])
    assert cache.get("b") is None
    assert np.array_equal(cache.get("a"), rows["a"])
    assert np.array_equal(cache.get("c"), rows["c"])


def test_dropped_and_replaced_logits_give_their_bytes_back():
    row = np.zeros(4, dtype=np.float32)
    cache: LogitsCache[str] = LogitsCache(max_bytes=2 * (row.nbytes + ENTRY_BYTES))
    for name in "aab":
        cache.put(name, row)
    cache.drop("b")
    cache.put("c", row)
    assert cache.get("a") is not None
    assert cache.get("c") is not None


def test_kept_logits_do_not_follow_the_callers_array():
    step = np.zeros((2, 4), dtype=np.float32)
    cache: LogitsCache[str] = LogitsCache(max_bytes=1000)
    cache.put("a", step[0])
    step[:] = 1
    assert np.array_equal(cache.get("a"), np.zeros(4))
