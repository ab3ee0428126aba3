"""The token trie gives the logits of plain full forwards, whatever was asked, kept and given back before."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from backends.transformers import tiny
from backends.tree_work import Walk

from rain_decoding.backends.transformers import engine as engine_module
from rain_decoding.backends.transformers import segments
from rain_decoding.backends.transformers.engine import TrieEngine

KINDS = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "gpt2", "gpt_neox"]
TOLERANCE = 1e-4


def walk(kind, engine, seed, attention=None):
    reference = partial(tiny.plain, tiny.model(kind, attention))
    return Walk(engine, reference, tiny.VOCABULARY, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_forwards_over_random_trees(kind, monkeypatch):
    monkeypatch.setattr(engine_module, "COMPACT_FROM", 8)
    work = walk(kind, TrieEngine(tiny.model(kind), 128), seed=3)
    for _ in range(25):
        work.step()
    assert work.worst <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_forwards_in_a_long_buffer(kind, monkeypatch):
    """As long as the buffer is short a step attends to all of it, from then on by segments."""
    monkeypatch.setattr(segments, "LONG", 40)
    work = walk(kind, TrieEngine(tiny.model(kind), 128), seed=6)
    for _ in range(15):
        work.step()
    assert work.worst <= TOLERANCE and work.engine._trie.pool.span > 40


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_equals_plain_forwards_under_eager_attention(kind):
    work = walk(kind, TrieEngine(tiny.model(kind, "eager"), 128), seed=4, attention="eager")
    for _ in range(15):
        work.step()
    assert work.worst <= TOLERANCE


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_kv_slots": 70},
        {"prefix_cache_slots": 12},
        {"prefix_cache_slots": 0, "logits_cache_bytes": 0},
        {"max_step_tokens": 3},
        {"keep_hidden": True},
    ],
    ids=str,
)
def test_equals_plain_forwards_under_every_limit(kind, options, monkeypatch):
    monkeypatch.setattr(engine_module, "COMPACT_FROM", 8)
    work = walk(kind, TrieEngine(tiny.model(kind), 128, **options), seed=5)
    for _ in range(20):
        work.step()
        assert work.engine.slots_used <= options.get("max_kv_slots", 10**9)
    assert work.worst <= TOLERANCE


def test_a_wrong_mask_would_show():
    """The comparison above has teeth: letting a branch see its siblings changes logits by far more."""
    engine = TrieEngine(tiny.model("llama"), 128)
    trunk = tiny.tokens(6)
    visible = engine._trie.visible
    engine._trie.visible = lambda nodes: visible(nodes) | True
    branches = [(*trunk, 5, 6), (*trunk, 7, 8)]
    logits, *_ = engine.forward(branches, [1, 1])
    assert np.abs(logits[1] - tiny.plain("llama", branches[1])).max() > 100 * TOLERANCE


def test_compaction_moves_the_kv(monkeypatch):
    monkeypatch.setattr(engine_module, "COMPACT_FROM", 8)
    engine = TrieEngine(tiny.model("llama"), 128, logits_cache_bytes=0)
    scrap, kept = [(2 + i, *tiny.tokens(59, i)) for i in range(10)], (20, *tiny.tokens(11))
    engine.forward(scrap, [1] * 10)
    engine.forward([kept], [2])
    engine.finish(1, [])
    assert (engine._trie.pool.span, engine._cache.step.capacity) == (612, 768)
    longer = (*kept, 9)
    logits, counts, _ = engine.forward([longer], [2])
    assert (engine._trie.pool.span, engine._cache.step.capacity, counts) == (13, 256, [1])
    assert np.abs(logits[0] - tiny.plain("llama", longer)).max() <= TOLERANCE
