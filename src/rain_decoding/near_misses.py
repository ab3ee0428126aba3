"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CLOSE = 0.6
"""Least similarity of what is suggested, in [0, 1], as `difflib` counts it."""


def hint(name: str, known: Iterable[str], what: str) -> str:
    """A hint behind an error about `name`: the nearest of the `known` names, if one is near, and all of them.

    Args:
        name: What was written.
        known: What may be written.
        what: What these are called, in the plural.

    Returns:
        For example "did you mean 'fast'? presets: fast, balanced".
    """
    names = list(known)
    near = nearest(name, names)
    listed = f"{what}: {', '.join(names)}" if names else f"there are no {what}"
    return f"did you mean {near!r}? {listed}" if near else listed


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; empty where none is like it."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=CLOSE)), "")
