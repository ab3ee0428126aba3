"""Attention by segments gives what packed attention gives."""

from __future__ import annotations

import numpy as np
import pytest
from backends.transformers import tiny

from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.plain import plain_logits
from rain_decoding.backends.transformers.segments import LONG, split


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "gemma3", "gpt2", "gpt_neox"])
def test_many_owners_in_one_step(kind: str):
    """Texts of several owners that share a beginning, forwarded together, against plain full forwards."""
    model = tiny.model(kind)
    rng = np.random.default_rng(7)
    engine = TrieEngine(model, 128, split_from=0)
    trunk = rng.integers(4, 60, 9).tolist()
    texts = [tuple(trunk + rng.integers(4, 60, length).tolist()) for length in (3, 20, 7, 1, 12)]
    for cut in (10, 14, 30):
        sequences = list(dict.fromkeys(text[:cut] for text in texts))
        logits, *_ = engine.forward(sequences, list(range(len(sequences))))
        for row, sequence in zip(logits, sequences, strict=True):
            assert np.abs(row - plain_logits(model, sequence)[-1]).max() < 1e-4


def test_the_models_own_attention_is_left_as_it_was():
    model = tiny.model("llama")
    before = model.config._attn_implementation
    TrieEngine(model, 128, split_from=0).forward([(1, 2, 3), (4, 5)], [1, 2])
    assert model.config._attn_implementation == before


def test_each_group_sees_what_its_members_see():
    rng = np.random.default_rng(0)
    visible = rng.random((12, 40)) < 0.2
    groups = [index % 3 for index in range(12)]
    segments = split(visible, groups, least_pairs=0)
    assert sorted(int(q) for segment in segments for q in segment.queries) == list(range(12))
    for segment in segments:
        members = segment.queries.tolist()
        assert len({groups[query] for query in members}) == 1
        assert segment.slots.tolist() == [s for s in range(40) if any(visible[q, s] for q in members)]


def test_splitting_that_does_not_pay_is_left_out():
    visible = np.ones((64, 512), dtype=bool)
    assert split(visible, list(range(64)), least_pairs=1) == []
    visible[:, 8:] = False
    assert len(split(visible, list(range(64)), least_pairs=1)) == 64
    assert split(visible, list(range(64)), least_pairs=visible.size + 1) == []


def test_a_single_query_reads_only_its_own_slots_of_a_long_buffer():
    visible = np.zeros((1, LONG), dtype=bool)
    visible[0, 3:9] = True
    (segment,) = split(visible, [1], least_pairs=2 * LONG)
    assert (segment.queries.tolist(), segment.slots.tolist()) == ([0], list(range(3, 9)))
    assert split(visible[:, :-1], [1], least_pairs=2 * LONG) == []
