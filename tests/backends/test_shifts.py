"""Hidden states shifted along a direction: as a plain forward whose modules are given the same sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends.transformers import tiny

from rain_decoding import UnsupportedError, load_backend
from rain_decoding.backends.directions import Direction, Directions, shifted
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.backends.transformers.rows import RowEngine
from rain_decoding.types import LAST, Layer, Shift, Tokens, TopTokens

TOLERANCE = 1e-4
ENGINES = {"trie": TrieEngine, "rows": RowEngine, "plain": PlainEngine}
WIDTH = 32


def direction(layers: tuple[Layer, ...], strength: float, seed: int = 0) -> Direction:
    vectors = np.random.default_rng(seed).normal(size=(len(layers), WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Direction(layers, vectors.astype(np.float32), strength)


def next_module(model: Any, layer: Layer) -> Any:
    """What is given the states of a layer."""
    base = model.base_model
    blocks, norm = (base.h, base.ln_f) if hasattr(base, "h") else (base.layers, base.norm)
    return model.lm_head if layer == LAST else [*blocks, norm][layer]


def reference(kind: str, tokens: Tokens, along: Direction, start: int) -> np.ndarray:
    """Logits after the last token of a full forward in which the states from `start` on were moved."""
    model, hooks = tiny.model(kind), []

    def moved(vector: np.ndarray) -> Any:
        def hook(module: Any, arguments: Any) -> Any:
            states = arguments[0].clone()
            for place in range(start, states.shape[1]):
                length = states[0, place].norm()
                states[0, place] += along.strength * length * torch.from_numpy(vector)
            return (states, *arguments[1:])

        return hook

    for layer, vector in zip(along.layers, along.vectors, strict=True):
        hooks.append(next_module(model, layer).register_forward_pre_hook(moved(vector)))
    try:
        with torch.inference_mode():
            logits: np.ndarray = model(torch.tensor([tokens])).logits[0, -1].numpy()
        return logits
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("layers", [(1,), (1, 2), (2, LAST)])
def test_they_are_those_of_a_plain_forward(name: str, kind: str, layers: tuple[Layer, ...]) -> None:
    engine: Any = ENGINES[name](tiny.model(kind), 128)
    one, other = direction(layers, 0.4), direction(layers, 0.8, seed=1)
    numbers = [engine.directions.number(each) for each in (one, other)]
    trunk = tiny.tokens(9)
    plain = engine.forward([(*trunk, 5)], [1])[0][0]
    for text in ((*trunk, 5), (*trunk, 5, 6), (*trunk, 7, 8, 9)):  # token by token, and several at once
        asked = [text, shifted(text, Shift(numbers[0], 8)), shifted(text, Shift(numbers[1], 6))]
        logits, *_ = engine.forward(asked, [1] * 3)
        wanted = [
            tiny.plain(kind, text),
            reference(kind, text, one, 8),
            reference(kind, text, other, 6),
        ]
        assert np.abs(logits - np.stack(wanted)).max() <= TOLERANCE
        assert np.abs(logits[0] - logits[1]).max() > 100 * TOLERANCE, "a shift that can be seen"
    assert np.array_equal(engine.forward([(*trunk, 5)], [1])[0][0], plain), "nothing else is changed by it"


@pytest.mark.parametrize("name", ENGINES)
def test_states_of_the_text_itself_are_read_without_a_shift(name: str) -> None:
    engine: Any = ENGINES[name](tiny.model("llama"), 128)
    engine.keep_layers([1, 2])
    number = engine.directions.number(direction((1,), 0.5))
    text = tiny.tokens(9)
    before, *_ = engine.hidden(text, 4, (1, 2), 1)
    engine.clear()
    engine.forward([shifted(text, Shift(number, 4))], [1])
    after, forwarded, _ = engine.hidden(text, 4, (1, 2), 1)
    assert np.abs(after - before).max() <= TOLERANCE and forwarded >= 5, "they are forwarded for it"


def test_a_shared_beginning_is_forwarded_once() -> None:
    engine = TrieEngine(tiny.model("llama"), 128)
    number = engine.directions.number(direction((1,), 0.5))
    text = tiny.tokens(9)
    assert engine.forward([text], [1])[1] == [9]
    assert engine.forward([shifted(text, Shift(number, 6))], [1])[1] == [3]
    engine.finish(1, [])
    assert engine.slots_used == 0


def test_a_direction_has_one_number() -> None:
    known = Directions()
    assert [known.number(direction((1,), 0.5)) for _ in range(2)] == [1, 1]
    assert known.number(direction((1,), 0.6)) == 2 and known.number(direction((2,), 0.5)) == 3
    assert known[2].strength == 0.6


def test_llama_cpp_cannot_shift_states(demo_file: Path) -> None:
    pytest.importorskip("cyllama")
    backend = load_backend(f"gguf:{demo_file}")
    assert not backend.capabilities.shifts
    with pytest.raises(UnsupportedError, match="cannot shift hidden states"):
        backend.shift_along(direction((LAST,), 0.5))
    with pytest.raises(UnsupportedError, match="cannot shift hidden states"):
        backend.submit(TopTokens((1, 2), 1, shift=Shift(1, 1)), backend.new_owner())
