"""Threads take turns: one at a time works with the models of a process, and its steps serve what all have asked for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from rain_decoding.errors import UnsupportedError

Method = TypeVar("Method", bound=Callable[..., Any])


class Turn:
    """A lock that goes round: who waits longest has it next, and who has it may take it again.

    There is one for all models, since a step of one may go on to another that judges: with one lock per model, two
    threads could wait for each other.
    """

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def acquire(self) -> None:
        """Wait for the turn."""
        me = threading.get_ident()
        if self._owner == me:
            self._depth += 1
            return
        # Made before the lock is held: nothing in there may collect garbage, which may want a turn, too.
        came_round = threading.Lock()
        came_round.acquire()
        ticket = (me, came_round)
        with self._mutex:
            if self._owner is None:
                self._owner = me
                self._depth = 1
                return
            self._waiting.append(ticket)
        try:
            came_round.acquire()
        except BaseException:  # Ctrl-C
            with self._mutex:
                came = ticket not in self._waiting
                if not came:
                    self._waiting.remove(ticket)
            if came:
                self.release()
            raise

    def try_acquire(self) -> bool:
        """Take the turn if nobody has it. Never waits, and so may be called wherever garbage is collected."""
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            if self._owner is not None:
                return False
            self._owner = threading.get_ident()
            self._depth = 1
            return True
        finally:
            self._mutex.release()

    def release(self) -> None:
        """Pass the turn on, once it has been released as often as it was taken."""
        self._depth -= 1
        if self._depth:
            return
        with self._mutex:
            if self._waiting:
                owner, came_round = self._waiting.popleft()
                self._owner = owner
                self._depth = 1
                came_round.release()
            else:
                self._owner = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Let others work meanwhile. Only for who has the turn."""
        depth, self._depth = self._depth, 1
        self.release()
        try:
            yield
        finally:
            self.acquire()
            self._depth = depth


TURN = Turn()
"""Whose turn it is to work with the models of this process."""


class Shared:
    """A model, or what works on one: threads may share it, processes may not. Its methods `in_turn` see to that."""

    process: int

    def __new__(cls, *args: Any, **options: Any) -> Any:
        made = super().__new__(cls)
        made.process = os.getpid()
        return made


def in_turn(method: Method) -> Method:
    """A method of something `Shared` that one thread at a time may be in.

    Raises `UnsupportedError` in another process than the one that made the thing: the threads that the model's
    library computes with do not come along.
    """

    @wraps(method)
    def waiting(self: Shared, *args: Any, **options: Any) -> Any:
        if self.process != os.getpid():
            raise UnsupportedError(
                f"this process was forked from process {self.process} after that had loaded the model",
                hint="load the model in the process that uses it, or start processes with the method 'spawn'",
            )
        with TURN:
            return method(self, *args, **options)

    return cast(Method, waiting)
