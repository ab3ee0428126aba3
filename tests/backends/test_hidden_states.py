"""Hidden states of any layer: those of a fresh forward, for free where the tokens were forwarded anyway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends.gguf.files import random_gemma
from backends.transformers import tiny

from rain_decoding import UnsupportedError, load_backend
from rain_decoding.backends.gguf.values import values_of
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.backends.transformers.rows import RowEngine
from rain_decoding.types import LAST, VALUES, Layer, Tokens

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
    states, *_ = engine.hidden(sequence, 4, layers, 1)
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
    states, count, _ = engine.hidden(sequence, 0, (1,), 1)
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
    states, count, _ = engine.hidden(kept, 0, (1,), 2)
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
    before, *_ = engine.hidden(sequence, 0, (1,), 1)
    tiny.plain("llama", tiny.tokens(9, seed=5))
    assert np.array_equal(engine.hidden(sequence, 0, (1,), 1)[0], before)


@pytest.mark.parametrize("name", ENGINES)
def test_a_layer_that_is_not_there(name: str) -> None:
    with pytest.raises(UnsupportedError, match="does not provide hidden states of layer 99"):
        make(name, "llama", (1, 99))


def read_values(demo_backend: Any, tokens: Tokens) -> np.ndarray:
    """The reference for llama.cpp: what the layers' value projections give in a full forward of transformers."""
    model = demo_backend.engine.model
    found: list[np.ndarray] = []
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(lambda _, __, output: found.append(output[0].numpy()))
        for layer in model.model.layers
    ]
    with torch.inference_mode():
        model(torch.tensor([tokens]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return np.concatenate(found[round(len(found) * 0.5) : round(len(found) * 0.9)], axis=1)


@pytest.fixture
def baked(demo_backend: Any) -> Tokens:
    text = "Human: How do I bake a nut roll?\n\nAssistant: First, heat the oven."
    found: Tokens = demo_backend.codec.encode(text)
    return found


class TestGguf:
    @pytest.mark.parametrize("flash", [False, True])
    @pytest.mark.parametrize("kind", ["f32", "f16"])
    def test_they_are_those_of_transformers(
        self, demo_file: Path, demo_backend: Any, baked: Tokens, kind: str, flash: bool
    ) -> None:
        pytest.importorskip("cyllama")
        backend: Any = load_backend(f"gguf:{demo_file}", kv_dtype=kind, flash_attention=flash)
        backend.keep_layers([VALUES])
        engine, owner, expected = backend.engine, backend.new_owner(), read_values(demo_backend, baked)
        half = baked[: len(baked) // 2]
        # Among others' tokens, in other cells than their order, and read in parts.
        engine.forward([half, (*half, 7), (*half, 8, 9)], [owner, owner, backend.new_owner()])
        states, count, _ = engine.hidden(baked, 5, (VALUES,), owner)
        assert count == len(baked) - len(half)
        for found, begin in ((states, 5), (engine.hidden(baked, 2, (VALUES,), owner)[0], 2)):
            assert found.dtype == np.float32 and found.shape == (1, len(baked) - begin, expected.shape[1])
            assert np.abs(found[0] - expected[begin:]).max() <= 0.02 * np.abs(expected).max()

    def test_of_what_was_forwarded_they_cost_nothing(self, demo_file: Path) -> None:
        backend: Any = load_backend(f"gguf:{demo_file}")
        backend.keep_layers([VALUES])
        tokens = tuple(range(20, 40))
        owner = backend.new_owner()
        whole, count, _ = backend.engine.hidden(tokens, 0, (VALUES,), backend.new_owner())
        assert count == len(tokens)
        backend.clear()
        backend.engine.forward([tokens[:10]], [owner])
        for end in range(11, 21):
            backend.engine.forward([tokens[:end]], [owner])
            for begin in (end - 1, 4):
                states, count, _ = backend.engine.hidden(tokens[:end], begin, (VALUES,), owner)
                assert count == 0 and np.abs(states - whole[:, begin:end]).max() <= 1e-3

    @pytest.mark.parametrize("window", [4, 16])
    def test_of_a_sliding_window_they_hold_behind_rewinds(self, tmp_path: Path, window: int) -> None:
        file = random_gemma(tmp_path / "gemma.gguf", window=window)
        backend: Any = load_backend(f"gguf:{file}", threads=1)
        backend.keep_layers([VALUES])
        engine, owner = backend.engine, backend.new_owner()
        tokens = tuple(range(20, 60))
        whole, *_ = engine.hidden(tokens, 0, (VALUES,), owner)
        engine.forward([(*tokens[:12], each) for each in (7, 8)], [owner] * 2)
        engine.trim(owner, tokens, 12)
        again, *_ = engine.hidden((*tokens[:12], 8), 3, (VALUES,), owner)
        assert np.abs(again[:, :-1] - whole[:, 3:12]).max() <= 1e-3 * np.abs(whole).max()

    def test_they_go_with_their_tokens(self, demo_file: Path) -> None:
        backend: Any = load_backend(f"gguf:{demo_file}", prefix_cache_slots=0)
        backend.keep_layers([VALUES])
        owner = backend.new_owner()
        backend.engine.hidden(tuple(range(20, 40)), 0, (VALUES,), owner)
        backend.finish(owner)
        assert backend.engine._values == {} and backend.counters.kv_slots == 0

    def test_what_is_no_state_of_the_known_form_is_an_error(self, demo_file: Path) -> None:
        backend: Any = load_backend(f"gguf:{demo_file}")
        node = backend.engine._trie
        backend.engine.forward([tuple(range(20, 40))], [backend.new_owner()])
        state = backend.engine._sequences.state(node.find(tuple(range(20, 40))), 3)
        assert len(values_of(state)) == 17
        for broken in (b"", state[:8], state[:-1], state[4:], state + b"\0", state + state[8:90]):
            with pytest.raises(ValueError):
                values_of(broken)

    def test_layers_are_refused(self, demo_file: Path) -> None:
        with pytest.raises(UnsupportedError, match="does not provide hidden states of layer 3"):
            load_backend(f"gguf:{demo_file}").keep_layers([3])
