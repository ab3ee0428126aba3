"""Directions that hidden states are shifted along, and how an engine is told which tokens stand under a shift.

A shifted token is another entry of the trie than the same token without: its keys and values are others. So engines
get it under another number, and whoever reads a text afterwards reads the states of a forward without any shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rain_decoding.types import Layer, Shift, Tokens

BITS = 32
"""Token ids are smaller than 2 to this power; what stands above them is the number of a direction."""


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """What is added to the states of `layers`: behind each of them its vector, of length `strength` times the state's.

    `vectors` are float32 `[layers, width]` of length 1; `strength` is above 0.
    """

    layers: tuple[Layer, ...]
    vectors: np.ndarray
    strength: float

    def same(self, other: Direction) -> bool:
        """Whether both do the same."""
        return (self.layers, self.strength) == (other.layers, other.strength) and np.array_equal(
            self.vectors, other.vectors
        )


class Directions:
    """The directions of one engine by number, from 1 on."""

    def __init__(self) -> None:
        self._known: list[Direction] = []

    def number(self, direction: Direction) -> int:
        """The number of a direction, the same for one that does the same."""
        for number, known in enumerate(self._known, 1):
            if known.same(direction):
                return number
        self._known.append(direction)
        return len(self._known)

    def __getitem__(self, number: int) -> Direction:
        return self._known[number - 1]


def shifted(tokens: Tokens, shift: Shift) -> Tokens:
    """The tokens as an engine is asked for them under a shift."""
    if not shift.number:
        return tokens
    above = shift.number << BITS
    return tokens[: shift.start] + tuple(token + above for token in tokens[shift.start :])


def ids_of(tokens: np.ndarray) -> np.ndarray:
    """Token ids of what an engine is asked for, int64."""
    return tokens & ((1 << BITS) - 1)


def numbers_of(tokens: np.ndarray) -> np.ndarray:
    """The directions' numbers, int64; 0 for a token that is not shifted."""
    return tokens >> BITS
