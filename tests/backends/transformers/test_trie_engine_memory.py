"""What the token trie keeps, what it forwards, and what it gives back."""

from __future__ import annotations

import copy
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from backends.transformers import tiny
from backends.tree_work import check_against_ledger, operation
from hypothesis import given, settings
from hypothesis import strategies as st

from rain_decoding.backends import trie_engine
from rain_decoding.backends.transformers import engine as engine_module
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.bounded import ENTRY_BYTES
from rain_decoding.errors import CapacityError


class Bookkeeping:
    """A model without content, so that many histories can be tried."""

    config = tiny.config("llama")
    config._attn_implementation = "sdpa"

    def get_input_embeddings(self):
        return SimpleNamespace(weight=torch.zeros(1))

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep):
        past_key_values.update(*torch.zeros(2, 1, 1, input_ids.shape[1], 1), 0)
        rows = logits_to_keep if isinstance(logits_to_keep, int) else len(logits_to_keep)
        return SimpleNamespace(logits=torch.zeros(1, rows, tiny.VOCABULARY))

    __call__ = forward


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(operation, min_size=3, max_size=14))
def test_slots_are_the_distinct_prefixes_held_and_each_token_is_forwarded_once(operations):
    check_against_ledger(TrieEngine(Bookkeeping(), 128), operations)


@pytest.fixture
def engine():
    return TrieEngine(tiny.model("llama"), 128)


def cost(engine, *sequences, owner=1):
    return sum(engine.forward(list(sequences), [owner] * len(sequences))[1])


def test_each_token_is_forwarded_once(engine):
    trunk = tiny.tokens(20)
    assert cost(engine, (*trunk, 2), (*trunk, 3)) == 22
    assert cost(engine, (*trunk, 2, 5), (*trunk, 3, 6), (*trunk, 3)) == 2


@pytest.mark.parametrize(("kind", "masks"), [("llama", 1), ("gemma3", 2)])
def test_a_step_makes_one_mask_for_each_kind_of_layer(kind, masks, monkeypatch):
    """Whatever the number of branches; and the model computes no more rows of logits than are asked for."""
    made, rows = [], []
    additive = engine_module.additive
    monkeypatch.setattr(
        engine_module, "additive", lambda mask, *where: made.append(mask.shape) or additive(mask, *where)
    )
    model = tiny.model(kind)
    model.lm_head.register_forward_hook(lambda module, given, output: rows.append(output.shape[1]))
    engine = TrieEngine(model, 128)
    trunk = tiny.tokens(9)
    branches = [(*trunk, token) for token in (3, 4, 5, 6)]
    engine.forward(branches, [1, 1, 2, 2])
    assert len(made) == masks and rows == [4]
    engine.forward([(*branch, 7) for branch in branches], [1, 1, 2, 2])
    assert len(made) == 2 * masks and rows == [4, 4]


def test_known_logits_are_served_and_unknown_ones_cost_their_last_token(engine):
    sequence = tiny.tokens(10)
    assert cost(engine, sequence) == 10
    assert cost(engine, sequence) == 0
    assert cost(engine, sequence[:6]) == 1
    assert engine.slots_used == 10


def test_clear_leaves_the_pinned(engine):
    pinned = tiny.tokens(8)
    engine.pin(pinned)
    cost(engine, (*pinned, 2, 3), tiny.tokens(5, seed=1))
    engine.finish(1, [(*pinned, 2, 3)])
    engine.clear()
    assert engine.slots_used == 8
    assert cost(engine, (*pinned, 2)) == 1


def test_pinned_prefixes_outlive_retain_and_finish(engine):
    pinned = tiny.tokens(8)
    engine.pin(pinned)
    cost(engine, (*pinned, 2, 3))
    engine.retain(1, [])
    assert engine.slots_used == 8


def test_the_next_owner_takes_over_what_a_finished_one_kept(engine):
    conversation = tiny.tokens(30)
    cost(engine, conversation)
    engine.finish(1, [conversation])
    assert cost(engine, conversation, owner=2) == 0
    assert cost(engine, (*conversation, 5), owner=2) == 1


def test_the_prefix_cache_is_bounded_and_drops_the_least_recently_used_leaves_first():
    engine = TrieEngine(tiny.model("llama"), 128, prefix_cache_slots=24)
    trunk = tiny.tokens(10)
    old, new = (*trunk, *tiny.tokens(10, seed=1)), (*trunk, *tiny.tokens(10, seed=2))
    for who, each in enumerate((old, new), start=1):
        cost(engine, each, owner=who)
        engine.finish(who, [each])
    assert engine.slots_used == 24
    assert cost(engine, new, owner=3) == 0
    assert cost(engine, old, owner=3) == 6  # its last six went, the trunk and four more stayed


def test_without_a_prefix_cache_nothing_stays():
    engine = TrieEngine(tiny.model("llama"), 128, prefix_cache_slots=0)
    cost(engine, tiny.tokens(30))
    engine.finish(1, [tiny.tokens(30)])
    assert engine.slots_used == 0


@pytest.mark.parametrize("place", ["isnan", "put", "hold", "find"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_nothing_is_left_behind_by_what_is_interrupted(engine, monkeypatch, place, call):
    """As by Ctrl-C, wherever it strikes."""
    sequences = [(*tiny.tokens(8), token) for token in (2, 3, 4)]
    cost(engine, sequences[0][:4])
    owner = {"isnan": trie_engine.np, "put": engine._logits, "hold": engine._trie, "find": engine._trie}[
        place
    ]
    real, calls = getattr(owner, place), []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, interrupted)
        for _ in range(call):
            with suppress(KeyboardInterrupt):
                engine.forward(sequences, [1] * 3)
    assert len(calls) >= call
    engine.finish(1, [])
    assert engine.slots_used == 0 and not any(root.children for root in engine._trie.roots.values())


class TestMemoryLimit:
    def test_finished_work_is_evicted_before_live_work(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=40)
        finished, live = tiny.tokens(20, seed=1), tiny.tokens(15, seed=2)
        cost(engine, live, owner=1)
        cost(engine, finished, owner=2)
        engine.finish(2, [finished])
        cost(engine, tiny.tokens(10, seed=3), owner=3)
        assert engine.slots_used == 40
        assert cost(engine, (*live, 2), owner=1) == 1

    def test_the_least_recently_used_live_leaves_go_next_and_are_computed_again(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=40)
        first, second = tiny.tokens(18, seed=1), tiny.tokens(18, seed=2)
        cost(engine, first, owner=1)
        cost(engine, second, owner=2)
        cost(engine, first, owner=1)
        cost(engine, tiny.tokens(10, seed=3), owner=3)
        assert cost(engine, (*second, 2), owner=2) == 7
        assert np.allclose(engine.forward([second], [2])[0][0], tiny.plain("llama", second), atol=1e-4)

    def test_the_pinned_is_never_evicted(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=30)
        engine.pin(tiny.tokens(10))
        for seed in range(1, 5):
            cost(engine, tiny.tokens(18, seed=seed), owner=seed)
        assert cost(engine, (*tiny.tokens(10), 2)) == 1

    def test_what_does_not_fit_into_one_step_takes_several(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=30)
        sequences = [tiny.tokens(25, seed=seed) for seed in range(3)]
        logits, counts, _ = engine.forward(sequences, [1, 2, 3])
        assert counts == [25, 25, 25]
        for row, each in zip(logits, sequences, strict=True):
            assert np.allclose(row, tiny.plain("llama", each), atol=1e-4)

    def test_what_the_step_itself_needs_is_not_evicted(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=20, logits_cache_bytes=0)
        held, other, new = (2, *tiny.tokens(9)), (3, *tiny.tokens(8)), (4, *tiny.tokens(10))
        cost(engine, held)
        cost(engine, other, owner=2)
        logits, counts, _ = engine.forward([held, new], [1, 3])
        assert counts == [1, 11]
        for row, each in zip(logits, (held, new), strict=True):
            assert np.allclose(row, tiny.plain("llama", each), atol=1e-4)

    def test_one_sequence_too_many_is_an_error_that_says_what_to_do(self):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=30)
        engine.pin(tiny.tokens(10))
        with pytest.raises(CapacityError, match="max_kv_slots"):
            cost(engine, tiny.tokens(21, seed=1))
        assert engine.slots_used == 10
        assert cost(engine, tiny.tokens(20, seed=1)) == 20

    @pytest.mark.parametrize(("limit", "most"), [(30, 30), (None, 256)])
    def test_the_buffers_stay_within_the_limit(self, limit, most):
        engine = TrieEngine(tiny.model("llama"), 128, max_kv_slots=limit)
        for seed in range(4):
            cost(engine, tiny.tokens(25, seed=seed), owner=seed + 1)
        layers = engine._cache.layers
        sizes = {tuple(buffer.tensor.shape) for layer in layers for buffer in layer.buffers}
        assert len(layers) == engine.model.config.num_hidden_layers
        assert {shape[2] for shape in sizes} == {most}


def test_the_logits_memory_is_bounded():
    row = 4 * tiny.VOCABULARY + ENTRY_BYTES
    engine = TrieEngine(tiny.model("llama"), 128, logits_cache_bytes=2 * row)
    sequence = tiny.tokens(5)
    cost(engine, sequence[:3], sequence[:4], sequence)
    assert cost(engine, sequence[:4], sequence) == 0
    assert cost(engine, sequence[:3]) == 1


class Fails:
    """A model that raises `error` while `active`."""

    def __init__(self, model, error):
        self.model, self.error, self.active = model, error, lambda ids: True

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, **inputs):
        if self.active(inputs["input_ids"]):
            raise self.error
        return self.model(**inputs)


def test_a_failed_forward_leaves_everything_as_it_was():
    model = Fails(tiny.model("llama"), RuntimeError("broken"))
    engine = TrieEngine(model, 128)
    with pytest.raises(RuntimeError, match="broken"):
        engine.forward([tiny.tokens(5)], [1])
    assert engine.slots_used == 0
    model.active = lambda ids: False
    assert np.allclose(
        engine.forward([tiny.tokens(5)], [1])[0], tiny.plain("llama", tiny.tokens(5)), atol=1e-4
    )


def test_out_of_memory_splits_the_step():
    model = Fails(tiny.model("llama"), torch.OutOfMemoryError("no memory"))
    model.active = lambda ids: ids.shape[1] > 10
    engine = TrieEngine(model, 128)
    sequences = [tiny.tokens(8, seed=seed) for seed in range(3)]
    assert engine.forward(sequences, [1, 1, 1])[1] == [8, 8, 8]
    with pytest.raises(CapacityError, match="out of memory"):
        engine.forward([tiny.tokens(20)], [1])


def test_nan_in_one_branch_reaches_no_other():
    model = copy.deepcopy(tiny.model("llama"))
    poison = 7
    with torch.no_grad():
        model.get_input_embeddings().weight[poison] = torch.nan
    engine = TrieEngine(model, 128)
    trunk = (2, 3, 4)
    engine.forward([trunk], [1])
    asked = [(*trunk, 5, 6), (*trunk, poison, 6), trunk[:2]]
    logits, *_ = engine.forward(asked, [1, 1, 1])
    assert np.isnan(logits[1]).all()
    for row in (0, 2):
        assert np.allclose(logits[row], tiny.plain(model, asked[row]), atol=1e-4)


def test_nan_does_not_stay_in_the_slots_it_was_stored_in():
    model = copy.deepcopy(tiny.model("llama"))
    poison = 7
    with torch.no_grad():
        model.get_input_embeddings().weight[poison] = torch.nan
    engine = TrieEngine(model, 128)
    scrap, live = (2, 3, 4, 5), (3, 4)
    engine.forward([scrap], [1])
    engine.forward([live], [2])
    engine.finish(1, [])
    assert np.isnan(engine.forward([(poison, 2, 3)], [3])[0]).all()
    assert engine.slots_used == 2
    assert np.allclose(engine.forward([(*live, 5)], [2])[0][0], tiny.plain(model, (*live, 5)), atol=1e-4)
