"""What tells one model from another, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

SAMPLES = 64
"""Places of a file that are looked at."""
PIECE = 1 << 14
"""Bytes at each of them."""


def of_parts(parts: Iterable[bytes]) -> str:
    """A short name, 32 hexadecimal digits, for what the parts say."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """The same for a large file, by its size and by pieces from all over it: reading it whole would take long."""
    size = path.stat().st_size
    places = sorted({size * number // SAMPLES for number in range(SAMPLES)} | {max(0, size - PIECE)})
    with path.open("rb") as file:

        def piece(place: int) -> bytes:
            file.seek(place)
            return file.read(PIECE)

        return of_parts([str(size).encode(), *map(piece, places)])
