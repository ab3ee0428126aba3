"""Seeds and uniform numbers. Nothing here has state: a draw depends on its seed and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

from rain_decoding.types import Tokens


def derive_seed(base: int, tokens: Tokens, purpose: str, index: int = 0) -> int:
    """A 64-bit seed that depends on nothing but its arguments, so that draws are the same in any batch."""
    digest = hashlib.blake2b(f"{base}|{purpose}|{index}|".encode(), digest_size=8)
    digest.update(np.asarray(tokens, dtype=np.int64).tobytes())
    return int.from_bytes(digest.digest(), "little")


def uniforms(seed: int) -> np.random.Generator:
    """The stream of uniform numbers that belongs to `seed`; one is used per token drawn."""
    return np.random.Generator(np.random.Philox(key=seed))
