"""Random work on engines over a token trie, and what it must cost and give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

CACHE, PIN = "cache", "pin"


class Ledger:
    """The specification by brute force: the set of prefixes that each holder holds, and known logits.

    What begins with a whole pinned prefix is apart from what does not: each prefix stands beside the longest such one.
    """

    def __init__(self):
        self.held = {}
        self.known = set()
        self.apart = {()}

    def place(self, sequence):
        return max((each for each in self.apart if sequence[: len(each)] == each), key=len)

    def prefixes(self, sequence):
        place = self.place(sequence)
        return {(place, sequence[:length]) for length in range(1, len(sequence) + 1)}

    @property
    def live(self):
        return set().union(*self.held.values())

    def forward(self, sequences, owner):
        """Tokens that each sequence must cost."""
        counts, fresh = [], set()
        for sequence in sequences:
            new = self.prefixes(sequence) - self.live
            counts.append(len(new) or self.named(sequence) not in self.known | fresh)
            self.held.setdefault(owner, set()).update(self.prefixes(sequence))
            fresh |= new
            self.known.add(self.named(sequence))
        return counts

    def new(self, sequences, owner):
        """Tokens of each sequence that nobody holds, before it is held."""
        counts = []
        for sequence in sequences:
            counts.append(len(self.prefixes(sequence) - self.live))
            self.held.setdefault(owner, set()).update(self.prefixes(sequence))
        return counts

    def named(self, sequence):
        return self.place(sequence), sequence

    def pin(self, sequence):
        self.apart.add(sequence)
        self.forward([sequence], PIN)

    def trim(self, owner, sequence, keep):
        mine, place = self.held.get(owner, set()), self.place(sequence)
        for length in range(len(sequence), keep, -1):
            own = {other for there, other in mine if there == place and len(other) > length}
            if any(other[:length] == sequence[:length] for other in own):
                return
            mine.discard((place, sequence[:length]))

    def retain(self, owner, kept):
        def stays(place, prefix):
            named = [each for there, each in map(self.named, kept) if there == place]
            return any(each[: len(prefix)] == prefix or prefix[: len(each)] == each for each in named)

        self.held[owner] = {each for each in self.held.get(owner, set()) if stays(*each)}

    def finish(self, owner, kept):
        for sequence in kept:
            self.held.setdefault(CACHE, set()).update(self.prefixes(sequence) & self.live)
        self.held.pop(owner, None)

    def clear(self):
        self.held = {PIN: self.held.get(PIN, set())}
        self.known = set()

    def forget(self):
        self.known &= self.live


# Few tokens and short sequences, so that they share prefixes often.
sequence = st.lists(st.integers(2, 4), min_size=1, max_size=6).map(tuple)
owner = st.integers(1, 3)
operation = st.one_of(
    st.tuples(st.just("forward"), st.lists(sequence, min_size=1, max_size=4, unique=True), owner),
    st.tuples(st.just("forward"), st.lists(sequence, min_size=1, max_size=4, unique=True), owner),
    st.tuples(st.just("trim"), owner, sequence, st.integers(0, 5)),
    st.tuples(st.just("retain"), owner, st.lists(sequence, max_size=2)),
    st.tuples(st.just("finish"), owner, st.lists(sequence, max_size=2)),
    st.tuples(st.just("pin"), sequence),
    st.tuples(st.just("clear")),
)


def check_against_ledger(engine: Any, operations: list[Any]) -> None:
    """Do the operations; slots held and tokens forwarded are the ledger's after each, and what an owner would have had
    to forward alone is what a ledger says in which nobody else has done anything."""
    ledger, own = Ledger(), {who: Ledger() for who in (1, 2, 3)}
    for name, *arguments in operations:
        if name == "forward":
            sequences, who = arguments
            _, counts, alone = engine.forward(sequences, [who] * len(sequences))
            assert counts == ledger.forward(sequences, who)
            assert alone == [*map(max, own[who].new(sequences, who), counts)]
        else:
            getattr(engine, name)(*arguments)
            getattr(ledger, name)(*arguments)
            for who, one in own.items():
                if name in ("pin", "clear") or arguments[0] == who:
                    getattr(one, name)(*arguments)
            if name == "finish":  # it begins anew, as any other
                own[arguments[0]].clear()
        ledger.forget()
        assert engine.slots_used == len(ledger.live), (name, arguments)


class Walk:
    """Random work of two owners on one engine: grow, ask again, commit, trim, finish; answers are checked."""

    def __init__(self, engine: Any, reference: Callable[..., np.ndarray], vocabulary: int, seed: int):
        """`reference` gives the logits after a sequence, float32 `[vocabulary]`."""
        self.engine, self.reference, self.vocabulary = engine, reference, vocabulary
        self.rng = np.random.default_rng(seed)
        self.sequences = {owner: [self.drawn(5)] for owner in (1, 2)}
        self.worst = 0.0

    def drawn(self, length: int) -> tuple[int, ...]:
        return tuple(map(int, self.rng.integers(2, self.vocabulary, size=length)))

    def step(self) -> None:
        owner = int(self.rng.choice([1, 2]))
        mine = self.sequences[owner]
        asked = {self.grown(mine) for _ in range(self.rng.integers(1, 5))}
        if self.rng.random() < 0.3:  # an inner token, whose logits may not be known
            asked.add(mine[0][: self.rng.integers(1, len(mine[0]))])
        self.ask(sorted(asked), owner)
        mine += asked
        match int(self.rng.integers(6)):
            case 0 | 1:
                kept = mine[self.rng.integers(len(mine))]
                self.engine.retain(owner, [kept])
                self.sequences[owner] = [kept]
            case 2:
                longest = max(mine, key=len)
                self.engine.trim(owner, longest, keep=max(1, len(longest) - 4))
            case 3:
                longest = max(mine, key=len)
                self.engine.finish(owner, [longest] if self.rng.random() < 0.5 else [])
                self.sequences[owner] = [longest[:7]]

    def grown(self, mine: list[tuple[int, ...]]) -> tuple[int, ...]:
        base = mine[self.rng.integers(len(mine))]
        return (*base, *self.drawn(self.rng.integers(1, 6)))[:60]

    def ask(self, sequences: list[tuple[int, ...]], owner: int) -> None:
        logits, *_ = self.engine.forward(sequences, [owner] * len(sequences))
        assert logits.dtype == np.float32
        assert logits.shape == (len(sequences), self.vocabulary)
        for row, sequence in zip(logits, sequences, strict=True):
            self.worst = max(self.worst, float(np.abs(row - self.reference(sequence)).max()))
