"""llama.cpp's token tree against plain forwards of transformers on the same weights, and what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backends.gguf.files import CONTEXT, load, random_gemma, random_llama
from backends.tree_work import Walk, check_against_ledger, operation
from hypothesis import given, settings
from hypothesis import strategies as st

from rain_decoding.backends.gguf.engine import ALONE, LlamaCppEngine, decodes, runs
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.trie import Node
from rain_decoding.errors import BackendError, CapacityError

TOLERANCE = 1e-3
VOCABULARY = 1500
LIMITS: list[dict[str, Any]] = [
    {},
    {"max_kv_slots": 70},
    {"max_kv_slots": 256},
    {"max_sequences": 6},
    {"prefix_cache_slots": 12},
    {"prefix_cache_slots": 0},
    {"max_step_tokens": 3},
    {"max_kv_slots": 90, "max_sequences": 5, "max_step_tokens": 7},
]


def drawn(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(map(int, np.random.default_rng(seed).integers(2, VOCABULARY, size=length)))


@pytest.fixture(scope="module")
def plain(demo_backend: LocalBackend) -> Callable[[tuple[int, ...]], np.ndarray]:
    """The reference: a full forward without cache."""
    import torch

    model = demo_backend.engine.model  # type: ignore[attr-defined]

    @torch.inference_mode()
    def logits(tokens: tuple[int, ...]) -> np.ndarray:
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].numpy()

    return logits


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_equals_plain_forwards_over_random_trees(demo_file: Path, plain: Any, limits: dict[str, Any]) -> None:
    engine: Any = load(demo_file, **limits).engine
    work = Walk(engine, plain, VOCABULARY, seed=3)
    for _ in range(30):
        work.step()
        assert engine.slots_used <= engine.max_kv_slots
    assert work.worst <= TOLERANCE


def test_equals_plain_forwards_without_known_logits(demo_file: Path, plain: Any) -> None:
    """Every question forwards its last token, again where that is held already."""
    engine: Any = load(demo_file, max_sequences=8).engine
    engine._logits.max_bytes = 0
    work = Walk(engine, plain, VOCABULARY, seed=5)
    for _ in range(25):
        work.step()
    assert work.worst <= TOLERANCE


@pytest.mark.parametrize("limits", [{}, {"max_sequences": 6}, {"max_kv_slots": 100}], ids=str)
def test_rewinds_reach_behind_a_sliding_window(tmp_path: Path, limits: dict[str, Any]) -> None:
    file = random_gemma(tmp_path / "gemma.gguf", window=8)
    alone, wide = load(file).engine, load(random_gemma(tmp_path / "wide.gguf", window=CONTEXT)).engine

    def plain(tokens: tuple[int, ...]) -> np.ndarray:
        alone.clear()
        return alone.forward([tokens], [1])[0][0]

    long = tuple(range(3, 60))
    assert np.abs(plain(long) - wide.forward([long], [1])[0][0]).max() > 100 * TOLERANCE
    engine: Any = load(file, **limits).engine
    engine._logits.max_bytes = 0
    work = Walk(engine, plain, alone.vocabulary_size, seed=5)
    for _ in range(40):
        work.step()
    assert work.worst <= TOLERANCE


def test_a_mixed_up_sequence_would_show(demo_file: Path, plain: Any) -> None:
    """The comparison above has teeth: a branch stored after another's tokens changes logits by far more."""
    engine: Any = load(demo_file).engine
    fork = engine._sequences._fork
    trunk, other = drawn(6), drawn(6, seed=1)
    engine.forward([trunk, other], [1, 1])
    wrong = engine._trie.find(other)
    engine._sequences._fork = lambda node, length: fork(wrong, length)
    branches = [(*trunk, 5), (*trunk, 7)]
    logits, *_ = engine.forward(branches, [1, 1])
    assert np.abs(logits[1] - plain(branches[1])).max() > 100 * TOLERANCE


class Cells:
    """llama.cpp's cache by brute force: which tokens are stored under each id. Logits are zeros."""

    n_batch = 4

    def __init__(self, n_seq_max: int):
        self.n_seq_max = n_seq_max
        self.stored: list[dict[int, tuple[int, int]]] = [{} for _ in range(n_seq_max)]
        """By id: position -> token and number of the cell."""
        self.cells = 0
        self.rows: list[tuple[int, int, list[int], bool]] = []

    def decode(self, batch: Cells) -> None:
        for token, position, ids, _ in self.rows:
            self.cells += 1
            for number in ids:
                assert position == len(self.stored[number]), "a sequence grows by one token at a time"
                self.stored[number][position] = (token, self.cells)

    def reset(self) -> None:
        self.rows = []

    def add(self, *row: Any) -> None:
        assert len(self.rows) < self.n_batch
        self.rows.append(row)

    def get_logits_ith(self, row: int) -> list[float]:
        assert self.rows[row][3], "only tokens whose logits were asked for have some"
        return [0.0] * 5

    def memory_seq_cp(self, source: int, target: int, first: int, end: int) -> None:
        assert not self.stored[target], "a fork goes to an empty sequence"
        self.stored[target] = {position: self.stored[source][position] for position in range(first, end)}

    def memory_seq_rm(self, number: int, first: int, end: int) -> None:
        assert end == -1
        self.stored[number] = {at: cell for at, cell in self.stored[number].items() if at < first}

    def prefixes(self) -> Counter[tuple[int, ...]]:
        """Every prefix of what is stored, and in how many cells."""
        cells: set[tuple[tuple[int, ...], int]] = set()
        for line in self.stored:
            for length in range(1, len(line) + 1):
                prefix = tuple(line[position][0] for position in range(length))
                cells.add((prefix, line[length - 1][1]))
        return Counter(prefix for prefix, _ in cells)


def bookkeeping(n_seq_max: int = 64, **limits: Any) -> tuple[LlamaCppEngine, Cells]:
    cells = Cells(n_seq_max)
    options = {"max_kv_slots": 4096, "prefix_cache_slots": 2048} | limits
    return LlamaCppEngine(cells, cells, 5, 128, **options), cells


def check_cells(engine: LlamaCppEngine, cells: Cells) -> None:
    """What is stored is what the trie holds, and every sequence is in use or free, but for the one that is spare."""
    engine._sequences.flush()
    assert cells.prefixes() == Counter(node.tokens for node in engine._trie.nodes if node)
    copies = engine._sequences.copies
    in_use = sum(map(bool, cells.stored))
    assert in_use + copies * len(engine._sequences.free) == (cells.n_seq_max - 1) // copies * copies
    assert not cells.stored[-1]


def do(engine: LlamaCppEngine, name: str, *arguments: Any) -> None:
    if name == "forward":
        sequences, owner = arguments
        engine.forward(sequences, [owner] * len(sequences))
    else:
        getattr(engine, name)(*arguments)


OPERATIONS = st.lists(operation, min_size=3, max_size=14)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(OPERATIONS)
def test_what_is_stored_is_what_the_ledger_holds(operations: list[Any]) -> None:
    engine, cells = bookkeeping()
    check_against_ledger(engine, operations)
    check_cells(engine, cells)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(OPERATIONS, st.integers(6, 16), st.integers(2, 7), st.booleans())
def test_what_is_stored_stays_within_every_limit(
    operations: list[Any], slots: int, sequences: int, window: bool
) -> None:
    engine, cells = bookkeeping(sequences, max_kv_slots=slots, sliding_window=window)
    for each in operations:
        with suppress(CapacityError):  # beside the pinned not everything fits
            do(engine, *each)
        assert engine.slots_used <= slots
        check_cells(engine, cells)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(OPERATIONS, st.integers(0, 6))
def test_finished_work_stays_bounded_and_clear_leaves_the_pins(operations: list[Any], cache: int) -> None:
    engine, cells = bookkeeping(prefix_cache_slots=cache)
    pinned: set[tuple[int, ...]] = set()
    for each in operations:
        do(engine, *each)
        if each[0] == "pin":
            pinned |= {each[1][:length] for length in range(1, len(each[1]) + 1)}
    for owner in (1, 2, 3):
        engine.finish(owner, [])
    assert engine.slots_used <= cache + len(pinned)
    engine.clear()
    assert {node.tokens for node in engine._trie.nodes if node} == pinned
    check_cells(engine, cells)


def test_one_sequence_too_many_is_an_error_that_says_what_to_do(demo_file: Path) -> None:
    engine = load(demo_file, max_kv_slots=30).engine
    engine.pin(drawn(10))
    with pytest.raises(CapacityError, match="max_kv_slots"):
        engine.forward([drawn(21, seed=1)], [1])
    assert engine.slots_used == 10
    assert engine.forward([drawn(20, seed=1)], [1])[1] == [20]


def test_branches_beyond_the_sequences_take_several_steps(demo_file: Path, plain: Any) -> None:
    engine = load(demo_file, max_sequences=3).engine
    trunk = drawn(5)
    engine.pin(trunk)
    branches = [(*trunk, token) for token in range(10, 17)]
    logits, counts, _ = engine.forward(branches, [1] * 7)
    assert counts == [1] * 7
    for row, branch in zip(logits, branches, strict=True):
        assert np.abs(row - plain(branch)).max() <= TOLERANCE
    alone = load(demo_file, max_sequences=1).engine
    alone.pin(trunk)
    with pytest.raises(CapacityError, match="max_sequences"):
        alone.forward([drawn(5, seed=1)], [1])
    assert alone.forward([(*trunk, 5)], [1])[1] == [1]


def test_a_failed_decode_leaves_everything_as_it_was(
    demo_file: Path, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = load(demo_file, max_step_tokens=4).engine
    trunk = drawn(6)
    engine.forward([trunk], [1])
    context, decodes = engine._context, iter([True, False])

    def decode(batch: Any) -> None:
        if not next(decodes):
            raise RuntimeError("broken")
        context.decode(batch)

    broken = SimpleNamespace(
        n_ctx=context.n_ctx, n_batch=4, decode=decode, get_logits_ith=context.get_logits_ith
    )
    monkeypatch.setattr(engine, "_context", broken)
    with pytest.raises(BackendError, match="broken"):
        engine.forward([(*trunk, *drawn(6, seed=2)), (*trunk, 8)], [1, 1])
    monkeypatch.setattr(engine, "_context", context)
    assert engine.slots_used == 6
    logits, counts, _ = engine.forward([(*trunk, 9), (*trunk, 8)], [1, 1])
    assert counts == [1, 1]
    assert np.abs(logits - np.stack([plain((*trunk, 9)), plain((*trunk, 8))])).max() <= TOLERANCE


@pytest.mark.parametrize("window", [None, 8])
def test_the_cache_grows_with_what_is_held_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """From 256 slots (llama.cpp's least) to 512 and to the limit, in the midst of branches, pins and rewinds."""
    file = tmp_path / "model.gguf"
    random_gemma(file, window=window) if window else random_llama(file)
    engines: list[Any] = []
    for slots in (256, 1024):
        monkeypatch.setattr("rain_decoding.backends.gguf.loading.RESERVED", slots)
        engines.append(load(file, max_kv_slots=700).engine)
    grown, whole = engines
    size, reserved = whole.vocabulary_size, {grown._context.n_ctx}

    def forward(sequences: list[tuple[int, ...]], owner: int) -> None:
        (logits, counts, _), (expected, same, _) = (
            engine.forward(sequences, [owner] * len(sequences)) for engine in engines
        )
        assert np.abs(logits - expected).max() <= TOLERANCE
        assert counts == same

    trunk = tuple(token % size for token in drawn(100))
    for engine in engines:
        engine.pin(trunk)
    for number in range(8):
        one, other = (
            (*trunk, *(token % size for token in drawn(45, seed=9 * number + side))) for side in range(2)
        )
        forward([one, other], number)
        for engine in engines:
            engine.trim(number, one, 120)
        forward([(*other[:130], 7, 8), one], number)
        reserved.add(grown._context.n_ctx)
    assert reserved == {256, 512, 768}, "700 is rounded up by llama.cpp"
    assert whole._context.n_ctx == 768


def test_without_memory_for_more_the_cache_stays_as_large_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rain_decoding.backends.gguf.loading.RESERVED", 256)
    engine: Any = load(random_llama(tmp_path / "model.gguf"), max_kv_slots=700).engine

    def larger(slots: int) -> None:
        raise CapacityError(f"no memory for {slots} slots", hint="")

    engine._larger = larger
    texts = [tuple(token % engine.vocabulary_size for token in drawn(90, seed=i)) for i in range(5)]
    for number, text in enumerate(texts):
        engine.forward([text], [number])
        assert engine.slots_used <= 256
    assert engine.max_kv_slots == 256


def test_nan_in_one_branch_reaches_no_other_and_does_not_stay(tmp_path: Path) -> None:
    file = random_llama(tmp_path / "nan.gguf", poison=7)
    engine, sound = load(file).engine, load(file).engine
    trunk = (3, 4, 5)
    engine.pin(trunk)
    asked = [(*trunk, 8, 9), (*trunk, 7, 9), trunk[:2]]
    logits, *_ = engine.forward(asked, [1, 1, 1])
    assert np.isnan(logits[1]).all()
    expected = sound.forward([asked[0], asked[2]], [1, 1])[0]
    assert np.abs(logits[[0, 2]] - expected).max() <= TOLERANCE
    again = (*trunk, 10)
    logits, counts, _ = engine.forward([again], [1])
    assert counts == [1], "the pinned prefix is held still"
    assert np.abs(logits - sound.forward([again], [1])[0]).max() <= TOLERANCE


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 64)
)
def test_long_runs_are_decoded_alone_and_everything_once_behind_its_parent(
    branches: list[tuple[int, int]], size: int
) -> None:
    nodes = [Node(0, None)]
    for place, length in branches:
        node = nodes[place % len(nodes)]
        for _ in range(length):
            node = Node(len(nodes), node)
            nodes.append(node)
    work = nodes[1:]
    decoded: list[Node] = []
    for piece in decodes(work, size):
        assert 0 < len(piece) <= size
        assert all(node.parent in {*decoded, nodes[0], *piece[:place]} for place, node in enumerate(piece))
        decoded += piece
    assert decoded == work
    for run in runs(work):
        if len(run) >= ALONE:
            assert sum(1 for piece in decodes(work, size) if {*piece} & {*run}) == -(-len(run) // size)
            assert all({*piece} <= {*run} for piece in decodes(work, size) if {*piece} & {*run})
