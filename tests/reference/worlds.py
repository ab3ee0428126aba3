"""Random small worlds for the search: a vocabulary, logits, judge and embedder that are hashes of the text.

A `RandomWorld` knows itself as text too (vocabulary, markers), so that a backend can be built from it.
Every world is a function of its number alone.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from reference.brute_force import Tokens, World

PIECES = [
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "ij",
    "kl",
    "m",
    "n",
    "o",
    "p",
    "qr",
    "s",
    "t",
    "u",
    "v",
    "wx",
]
PUNCTUATION = [".", ",", "?", ":", ";", "\n"]
LOGIT_KINDS = ("normal", "peaked", "flat", "impossible", "equal", "constant")
JUDGE_KINDS = ("random", "mostly bad", "bad", "mostly good", "good", "depth", "gaps", "mostly gaps", "soft")
EMBED_KINDS = ("random", "near", "identical", "clusters", "by first")
ROWS = 64


@dataclass(frozen=True)
class RandomWorld(World):
    """A world with the texts behind its token ids."""

    number: int = 0
    vocabulary: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    kinds: tuple[str, str, str] = ("", "", "")


def text_hash(salt: str, tokens: Tokens) -> int:
    """A number that depends on the salt and the token ids; the same on every machine."""
    return zlib.crc32(np.asarray(tokens, dtype="<i8").tobytes(), zlib.crc32(salt.encode()))


def random_world(
    number: int, *, logits: str = "", judge: str = "", embed: str = "", max_tokens: int | None = None
) -> RandomWorld:
    """World `number`; its kinds of logits, judge and embedder are drawn unless they are given."""
    rng = random.Random(number)
    kinds = (rng.choice(LOGIT_KINDS), rng.choice(JUDGE_KINDS), rng.choice(EMBED_KINDS))
    kinds = (logits or kinds[0], judge or kinds[1], embed or kinds[2])
    marks = rng.sample(PUNCTUATION, rng.randint(0, 3))
    letters = rng.sample(PIECES, rng.randint(4, 20))
    ends = ["<end>", "<stop>"][: rng.choice((1, 1, 1, 2))]
    vocabulary = letters + marks + ends
    rng.shuffle(vocabulary)
    markers = tuple(
        "".join(rng.sample(letters, rng.choice((1, 2, 2, 2)))) for _ in range(rng.choice((0, 1, 1, 2)))
    )
    eos = frozenset(vocabulary.index(end) for end in ends)
    words = [token for token in range(len(vocabulary)) if token not in eos]
    prompt = tuple(rng.choices(words, k=rng.randint(1, 4)))
    if marks and rng.random() < 0.3:
        prompt += (vocabulary.index(marks[0]),)
    elif markers and rng.random() < 0.3:
        prompt += tuple(vocabulary.index(piece) for piece in letters if piece in markers)
    table = _logit_table(kinds[0], number, len(vocabulary), eos, rng.choice((-3.0, -1.0, 0.0, 1.0)))

    def text(tokens: Tokens) -> str:
        return "".join(vocabulary[token] for token in tokens if token not in eos)

    return RandomWorld(
        logits=lambda tokens: table[text_hash("logits", tokens) % ROWS],
        eos=eos,
        marker_end=lambda answer: any(marker in text(answer) for marker in markers),
        ends_with_punctuation=lambda tokens: text(tokens).endswith(tuple(PUNCTUATION)),
        judge=_judge(kinds[1], number),
        embed=_embedder(kinds[2], number, rng.choice((2, 3, 6))),
        prompt=prompt,
        max_tokens=rng.choice((3, 7, 12, 17)) if max_tokens is None else max_tokens,
        seed=rng.randint(0, 2**40),
        number=number,
        vocabulary=tuple(vocabulary),
        markers=markers,
        kinds=kinds,
    )


def _logit_table(kind: str, number: int, size: int, eos: frozenset[int], bias: float) -> np.ndarray:
    rng = np.random.default_rng(number)
    spreads = {"normal": 1.5, "peaked": 6.0, "flat": 0.05, "impossible": 1.5, "equal": 1.2, "constant": 0.0}
    table = rng.normal(0.0, 1.0, (ROWS, size)) * spreads[kind]
    if kind == "equal":
        table = np.round(table)
    table[:, sorted(eos)] += bias
    if kind == "impossible":
        certain = rng.integers(0, size, ROWS)
        table[rng.random((ROWS, size)) < rng.choice((0.3, 0.7, 0.85))] = -np.inf
        table[np.arange(ROWS), certain] = 1.0
    return table.astype(np.float32)


def _judge(kind: str, number: int) -> Callable[[Tokens], float | None]:
    def judge(tokens: Tokens) -> float | None:
        share = text_hash(f"judge {number}", tokens) / 2**32
        match kind:
            case "random":
                return (-1.0, 0.0, 1.0)[int(3 * share)]
            case "mostly bad":
                return -1.0 if share < 0.85 else (0.0 if share < 0.9 else 1.0)
            case "bad":
                return -1.0
            case "mostly good":
                return 1.0 if share < 0.9 else -1.0
            case "good":
                return 1.0
            case "depth":
                return -1.0 if (len(tokens) // 3) % 2 else 1.0
            case "gaps":
                return None if share < 0.3 else (-1.0 if share < 0.7 else 1.0)
            case "mostly gaps":
                return None if share < 0.85 else -1.0
            case _:
                return round(2 * share - 1, 3)

    return judge


def _embedder(kind: str, number: int, dim: int) -> Callable[[Tokens, int], np.ndarray]:
    rng = np.random.default_rng([number, 7])
    table = rng.normal(0.0, 1.0, (ROWS, dim))
    centre = rng.normal(0.0, 1.0, dim)
    centre /= np.linalg.norm(centre)
    if kind == "near":
        table = centre + rng.choice((0.02, 0.1, 0.2)) * table
    elif kind == "identical":
        table = np.repeat(centre[None], ROWS, axis=0)
    elif kind == "clusters":
        table = np.where(rng.random((ROWS, 1)) < 0.5, centre, -centre[::-1]) + 0.1 * table
    table /= np.linalg.norm(table, axis=1, keepdims=True)

    def embed(tokens: Tokens, start: int) -> np.ndarray:
        seen = tokens[start : start + 1] if kind == "by first" else tokens[start:]
        return table[text_hash("embed", seen) % ROWS]

    return embed
