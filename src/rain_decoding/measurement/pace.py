"""How long work of several kinds will take that are not equally slow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping


class Pace:
    """Time per piece of each kind, from the times at which pieces were finished.

    `missing` says how many pieces of each kind are to be done. Kinds of which nothing was finished yet count as the
    mean of the others, until they begin: the time that is left is known the better, the more kinds were seen. The first
    piece of all tells nothing: something had to be loaded for it.
    """

    def __init__(self, missing: Mapping[str, int], clock: Callable[[], float] = time.monotonic):
        self.missing, self._clock = Counter(missing), clock
        self._spent: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._last: float | None = None

    def finished(self, kind: str) -> float | None:
        """Count a piece; the seconds that the missing ones will take, None where that cannot be said yet."""
        before, self._last = self._last, self._clock()
        self.missing[kind] -= 1
        if before is None:
            return None
        self._spent[kind] += self._last - before  # type: ignore[assignment]
        self._done[kind] += 1
        mean = self._spent.total() / self._done.total()
        return sum(
            count * (self._spent[each] / self._done[each] if self._done[each] else mean)
            for each, count in self.missing.items()
        )
