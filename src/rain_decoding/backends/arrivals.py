"""What comes from elsewhere for a step that waits: replies over HTTP, for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from rain_decoding.turns import TURN

PATIENCE = 0.2
"""Seconds that a step waits for something to arrive at most, so that budgets are looked at."""


class Arrivals:
    """What came, in its order, for the threads that step a backend; `put` and `wake` may be called from any thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._something = threading.Event()
        self._sleepers = 0

    def put(self, what: Callable[[], None]) -> None:
        """Hand something on that a step is to do."""
        self._queue.put(what)
        self._something.set()

    def wake(self) -> None:
        """Let those that wait come back at once, or who waits next."""
        self._something.set()

    def wait(self) -> None:
        """Wait for something to arrive, for `PATIENCE` at most; others have their turn meanwhile."""
        self._sleepers += 1
        try:
            with TURN.passed():
                self._something.wait(PATIENCE)
        finally:
            self._sleepers -= 1

    def take(self) -> None:
        """Do all that has arrived."""
        self._something.clear()
        while True:
            try:
                self._queue.get_nowait()()
            except Empty:
                break

    def tell_sleepers(self) -> None:
        """What they wait for may have been done by another thread."""
        if self._sleepers:
            self._something.set()
