"""Copied caches: what they cost and what they give back."""

from __future__ import annotations

import numpy as np
import pytest
from backends.transformers import tiny

from rain_decoding.backends.transformers.rows import RowEngine


@pytest.fixture(params=["bloom", "mamba"])
def kind(request):
    return request.param


def make(kind, **options):
    return RowEngine(tiny.model(kind), 128, stepwise=kind == "mamba", **options)


def cost(engine, *sequences, owner=1):
    return engine.forward(list(sequences), [owner] * len(sequences))[1]


def test_equals_plain_forwards_over_random_trees(kind):
    engine, rng = make(kind), tiny.draw(1)
    known = [tiny.tokens(5)]
    for step in range(20):
        base = known[rng.integers(len(known))]
        asked = (*base, *map(int, rng.integers(2, tiny.VOCABULARY, size=rng.integers(1, 4))))[:40]
        logits, *_ = engine.forward([asked], [1])
        assert np.abs(logits[0] - tiny.plain(kind, asked)).max() <= 1e-4
        known.append(asked)
        if step % 6 == 5:
            engine.retain(1, [asked])


def test_a_branch_costs_only_what_is_new(kind):
    engine, trunk = make(kind), tiny.tokens(12)
    assert cost(engine, trunk) == [12]
    assert cost(engine, (*trunk, 2), (*trunk, 3, 4)) == [1, 2]
    assert cost(engine, (*trunk, 2, 5), trunk) == [1, 0]


def test_retain_keeps_the_way_to_a_prefix_and_what_extends_it(kind):
    engine, trunk = make(kind), tiny.tokens(12)
    cost(engine, trunk, (*trunk, 2), (*trunk, 2, 3), (*trunk, 4))
    engine.retain(1, [(*trunk, 2)])
    assert engine.slots_used == 12 + 13 + 14


def test_trim_drops_the_end_of_a_sequence(kind):
    engine, trunk = make(kind), tiny.tokens(12)
    cost(engine, trunk, (*trunk, 2), (*trunk, 2, 3))
    engine.trim(1, (*trunk, 2, 3), keep=12)
    assert engine.slots_used == 12


def test_trim_stops_where_another_sequence_forks_off(kind):
    engine, trunk = make(kind), tiny.tokens(12)
    cost(engine, trunk, (*trunk, 2), (*trunk, 2, 3), (*trunk, 2, 4))
    engine.trim(1, (*trunk, 2, 3), keep=12)
    assert engine.slots_used == 12 + 13 + 14


def test_the_next_owner_takes_over_what_a_finished_one_kept(kind):
    engine, trunk = make(kind), tiny.tokens(12)
    cost(engine, trunk)
    engine.finish(1, [(*trunk, 9)])
    assert cost(engine, (*trunk, 9, 2), owner=2) == [2]
    engine.finish(2, [])
    assert engine.slots_used == 12


def test_clear_leaves_the_pinned(kind):
    engine, pinned = make(kind), tiny.tokens(8)
    cost(engine, pinned)
    engine.clear()
    engine.pin(pinned)
    cost(engine, (*pinned, 2))
    engine.clear()
    assert engine.slots_used == 8
    assert cost(engine, (*pinned, 3)) == [1]


@pytest.mark.parametrize("limit", [{"max_kv_slots": 40}, {"max_bytes": 14_000}], ids=str)
def test_memory_is_bounded(kind, limit):
    engine = make(kind, logits_cache_bytes=0, **limit)
    for seed in range(6):
        sequence = tiny.tokens(12, seed=seed)
        assert cost(engine, sequence) == [12]
        assert np.abs(engine.forward([sequence], [1])[0][0] - tiny.plain(kind, sequence)).max() <= 1e-4
    assert 12 <= engine.slots_used <= 40


def test_states_are_given_whatever_memory_there_is(kind):
    engine, sequence = make(kind, max_kv_slots=4), tiny.tokens(8)
    layer = max(engine.layers)
    engine.keep_layers([layer])
    states, count, _ = engine.hidden(sequence, 2, (layer,), 1)
    assert states.shape == (1, 6, 32) and count == 8 and engine.slots_used <= 4
    roomy = make(kind)
    roomy.keep_layers([layer])
    assert np.array_equal(states, roomy.hidden(sequence, 2, (layer,), 1)[0])
