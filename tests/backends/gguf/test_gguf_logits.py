"""Rows read from memory against those that the binding hands over."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.gguf.files import load, random_llama

from rain_decoding.backends.gguf import logits
from rain_decoding.backends.gguf.logits import LogitsReader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is a file on Linux only")


@pytest.fixture
def engine(demo_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine each of whose rows is compared, bit for bit."""
    engine: Any = load(demo_file, max_step_tokens=24).engine
    reader, engine.compared = engine._reader, 0
    read = reader.read

    def compared(context: Any, token: int, output: int) -> np.ndarray:
        row = read(context, token, output)
        assert row.tobytes() == np.array(context.get_logits_ith(token), dtype=np.float32).tobytes()
        engine.compared += 1
        return row

    monkeypatch.setattr(reader, "read", compared)
    return engine


def drawn(rng: np.random.Generator, length: int) -> tuple[int, ...]:
    return tuple(map(int, rng.integers(2, 1500, length)))


def test_rows_are_the_bindings_whatever_else_is_in_the_step(engine: Any) -> None:
    rng = np.random.default_rng(0)
    trunk = drawn(rng, 30)
    for step in range(6):
        branches = [(*trunk[: 5 * step + 5], *drawn(rng, length)) for length in (1, 9, 2, 1)]
        engine.forward(branches, [1] * 4)
    assert engine.compared == 24
    assert engine._reader.direct


def test_rows_stay_the_bindings_when_states_are_kept(engine: Any) -> None:
    rng = np.random.default_rng(1)
    engine.keep_layers(engine.layers)
    text = drawn(rng, 12)
    engine.forward([text], [1])
    engine.forward([(*text, 5), (*text, 6)], [1, 1])
    engine.hidden(text, 3, engine.layers, 1)
    assert engine.compared >= 3
    assert engine._reader.direct


def test_a_larger_cache_is_read_as_the_first_one(demo_file: Path) -> None:
    engine: Any = load(demo_file, context_length=256, max_kv_slots=4096).engine
    rng, first = np.random.default_rng(2), engine._context
    kept = [drawn(rng, 250) for _ in range(6)]
    rows, *_ = engine.forward(kept, [1] * 6)
    engine.forward([drawn(rng, 3)], [1])
    assert engine._context is not first, "the cache has grown"
    assert engine._reader.direct
    fresh: Any = load(demo_file, context_length=256, max_kv_slots=4096).engine
    fresh._reader.close()
    assert np.abs(rows - fresh.forward(kept, [1] * 6)[0]).max() < 1e-3


def test_a_lost_place_is_searched_again(engine: Any) -> None:
    engine.forward([(5, 6)], [1])
    right = engine._reader._place
    engine._reader._place = (8, 16)
    engine.forward([(5, 6, 7)], [1])
    assert engine._reader._place == right
    assert engine._reader.direct


def test_rows_come_through_the_binding_where_memory_does_not_show_them(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "STRUCTURE", 8)
    engine._reader._place = None  # it was found when the file was loaded
    engine.forward([(5, 6), (5, 7)], [1, 1])
    assert engine.compared == 2
    assert not engine._reader.direct


def test_rows_come_through_a_binding_that_always_hands_all_over(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._reader._model, "showing", lambda entries: nullcontext())
    engine.forward([(5, 6), (5, 7)], [1, 1])
    assert engine.compared == 2
    assert not engine._reader.direct


def test_only_rows_that_are_asked_for_are_read(engine: Any) -> None:
    engine.forward([tuple(range(3, 53)), (3, 4, 9)], [1, 1])
    assert engine.compared == 2


def test_rows_come_through_the_binding_without_memory_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "MEMORY", str(tmp_path / "missing"))
    engine: Any = load(random_llama(tmp_path / "model.gguf")).engine
    assert not engine._reader.direct
    assert engine.forward([(5, 6)], [1])[0].shape == (1, engine.vocabulary_size)


def test_addresses_without_memory_give_nothing() -> None:
    reader = LogitsReader(4, model=object())
    assert reader.direct
    for address in (0, 1, 2**47, 2**63 - 8, 2**64 - 1):
        assert reader._at(address, 8) == b""
