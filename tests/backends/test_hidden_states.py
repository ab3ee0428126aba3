"""Hidden states of any layer: those of a fresh forward, for free where the tokens were forwarded anyway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends.transformers import tiny

from rain_decoding import UnsupportedError, load_backend
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.backends.transformers.rows import RowEngine
from rain_decoding.types import LAST, Layer, Tokens

TOLERANCE = 1e-4
ENGINES = {"trie": TrieEngine, "rows": RowEngine, "plain": PlainEngine}


def fresh(kind: str, sequence: Tokens, layers: tuple[Layer, ...]) -> np.ndarray:
    """The reference: transformers' own hidden states after a full forward, `[layers, tokens, width]`.

    Its list begins with the embeddings and ends with the last layer behind the final normalisation.
    """
    with torch.inference_mode():
        states = (
            tiny.model(kind).base_model(torch.tensor([sequence]), output_hidden_states=True).hidden_states
        )
    return np.stack([states[-1 if layer == LAST else layer][0].numpy() for layer in layers])


def make(name: str, kind: str, layers: tuple[Layer, ...], **options: Any) -> Any:
    engine = ENGINES[name](tiny.model(kind), 128, **options)
    engine.keep_layers(layers)
    return engine


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("name", ENGINES)
def test_they_are_those_of_a_fresh_forward(name: str, kind: str) -> None:
    layers = (1, LAST)
    engine = make(name, kind, layers)
    trunk = tiny.tokens(9)
    engine.forward([(*trunk, 5), (*trunk, 6)], [1, 1])
    engine.forward([(*trunk, 6, 7)], [1])
    sequence = (*trunk, 6, 7, 8)
    states, _ = engine.hidden(sequence, 4, layers, 1)
    assert states.dtype == np.float32
    assert np.abs(states - fresh(kind, sequence, layers)[:, 4:]).max() <= TOLERANCE


@pytest.mark.parametrize("name", ["trie", "rows"])
def test_of_what_was_forwarded_they_cost_nothing(name: str) -> None:
    engine = make(name, "llama", (1,))
    sequence = tiny.tokens(9)
    for end in range(5, 10):
        engine.forward([sequence[:end]], [1])
    assert engine.hidden(sequence, 3, (1,), 1)[1] == 0
    assert engine.hidden(sequence[:-1], 3, (1,), 1)[1] == 0
    assert engine.hidden((*sequence, 4), 3, (1,), 1)[1] == 1


@pytest.mark.parametrize("name", ["trie", "rows"])
def test_what_was_cached_before_they_were_kept_is_forwarded_again(name: str) -> None:
    engine = ENGINES[name](tiny.model("llama"), 128)
    sequence = tiny.tokens(9)
    engine.forward([sequence], [1])
    engine.keep_layers([1])
    states, count = engine.hidden(sequence, 0, (1,), 1)
    assert count == 9 and np.abs(states - fresh("llama", sequence, (1,))).max() <= TOLERANCE


def test_they_move_with_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    import rain_decoding.backends.transformers.engine as module

    monkeypatch.setattr(module, "COMPACT_FROM", 8)
    engine = make("trie", "llama", (1,), logits_cache_bytes=0)
    scrap, kept = [(2 + i, *tiny.tokens(59, i)) for i in range(10)], (20, *tiny.tokens(11))
    engine.forward(scrap, [1] * 10)
    engine.forward([kept], [2])
    engine.finish(1, [])
    engine.forward([(*kept, 9)], [2])
    states, count = engine.hidden(kept, 0, (1,), 2)
    assert count == 0 and np.abs(states - fresh("llama", kept, (1,))).max() <= TOLERANCE


def test_their_memory_is_given_back() -> None:
    rows = make("rows", "llama", (1, LAST), keep_finished=False)
    bare = RowEngine(tiny.model("llama"), 128, keep_finished=False)
    for engine in (rows, bare):
        engine.forward([tiny.tokens(9)], [1])
    width = tiny.model("llama").config.hidden_size
    assert rows._bytes - bare._bytes == 2 * 9 * width * 4
    rows.finish(1, [])
    assert rows._bytes == 0
    trie = make("trie", "llama", (1,))
    trie.forward([tiny.tokens(9)], [1])
    trie.finish(1, [])
    assert trie.slots_used == 0


def test_foreign_forwards_of_the_model_do_not_change_them() -> None:
    engine = make("trie", "llama", (1,))
    sequence = tiny.tokens(9)
    before, _ = engine.hidden(sequence, 0, (1,), 1)
    tiny.plain("llama", tiny.tokens(9, seed=5))
    assert np.array_equal(engine.hidden(sequence, 0, (1,), 1)[0], before)


@pytest.mark.parametrize("name", ENGINES)
def test_a_layer_that_is_not_there(name: str) -> None:
    with pytest.raises(UnsupportedError, match="does not provide hidden states of layer 99"):
        make(name, "llama", (1, 99))


class TestGguf:
    def test_they_are_those_of_transformers(self, demo_file: Path, demo_backend: Any) -> None:
        pytest.importorskip("cyllama")
        backend = load_backend(f"gguf:{demo_file}")
        tokens = demo_backend.codec.encode(
            "Human: How do I bake a nut roll?\n\nAssistant: First, heat the oven."
        )
        for each in (backend, demo_backend):
            each.keep_layers([LAST])
        owner = backend.new_owner()
        states, count = backend.engine.hidden(tokens, 0, (LAST,), owner)
        expected, _ = demo_backend.engine.hidden(tokens, 0, (LAST,), demo_backend.new_owner())
        demo_backend.clear()
        assert count == len(tokens) and np.abs(states - expected).max() <= 0.02 * np.abs(expected).max()

    def test_of_what_was_decoded_they_cost_nothing(self, demo_file: Path) -> None:
        backend = load_backend(f"gguf:{demo_file}")
        backend.keep_layers([LAST])
        tokens = tuple(range(20, 40))
        owner = backend.new_owner()
        whole, _ = backend.engine.hidden(tokens, 10, (LAST,), backend.new_owner())
        backend.clear()
        for end in range(10, 21):
            backend.engine.forward([tokens[:end]], [owner])
        states, count = backend.engine.hidden(tokens, 10, (LAST,), owner)
        assert count == 0 and np.abs(states - whole).max() <= 0.02 * np.abs(whole).max()
        again, count = backend.engine.hidden(tokens, 4, (LAST,), owner)
        assert count == 16, "of the prompt they were not kept"
        assert np.abs(again[:, 6:] - whole).max() <= 0.02 * np.abs(whole).max()

    def test_they_go_with_their_tokens(self, demo_file: Path) -> None:
        backend = load_backend(f"gguf:{demo_file}", prefix_cache_slots=0)
        backend.keep_layers([LAST])
        owner = backend.new_owner()
        backend.engine.hidden(tuple(range(20, 40)), 0, (LAST,), owner)
        backend.finish(owner)
        assert backend.engine._states == {} and backend.counters.kv_slots == 0

    def test_other_layers_are_refused(self, demo_file: Path) -> None:
        with pytest.raises(UnsupportedError, match="does not provide hidden states of layer 3"):
            load_backend(f"gguf:{demo_file}").keep_layers([3])
