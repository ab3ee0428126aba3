"""Answers for coroutines: one thread works with a model for all of them, and each of its steps serves all."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.session import Session
from rain_decoding.errors import RainError
from rain_decoding.scheduler import Scheduler
from rain_decoding.types import Commit, Completion

News = Commit | Completion | Exception
"""What a coroutine hears of its answer; the last two end it."""


@dataclass(eq=False)
class Errand:
    """An answer that a coroutine wants. `open` and `tell` are called in the runner's thread.

    At most `concurrency` answers run on the model when this one begins.
    """

    open: Callable[[], Session]
    tell: Callable[[News], None]
    concurrency: int
    session: Session | None = None
    left: bool = False
    """Set by anyone: nobody waits for it any more."""


class Runner:
    """Works with one backend, in a thread that lives as long as somebody waits for an answer."""

    _of: ClassVar[WeakKeyDictionary[Backend, Runner]] = WeakKeyDictionary()
    _making: ClassVar = threading.Lock()

    @classmethod
    def of(cls, backend: Backend) -> Runner:
        """The runner of this backend."""
        with cls._making:
            if (runner := cls._of.get(backend)) is None:
                runner = cls._of[backend] = cls(backend)
            return runner

    def __init__(self, backend: Backend):
        self._scheduler = Scheduler.of(backend)
        self._changing = threading.Lock()
        self._waiting: deque[Errand] = deque()
        self._running: list[Errand] = []
        self.thread: threading.Thread | None = None

    def submit(self, errand: Errand) -> None:
        """Have an answer found. From any thread."""
        with self._changing:
            self._waiting.append(errand)
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._work, name="rain-coroutines")
                self.thread.start()
        self._scheduler.wake()

    def leave(self, errand: Errand) -> None:
        """Nobody waits for this any more. From any thread."""
        errand.left = True
        self._scheduler.wake()

    def _work(self) -> None:
        while self._admit():
            for errand in list(self._running):
                self._pass_on(errand)
            self._advance()

    def _admit(self) -> bool:
        """Begin what there is room for; whether there is anything to do. If not, the thread ends."""
        with self._changing:
            if not self._waiting and not self._running:
                self.thread = None
                return False
            taken: list[Errand] = []
            for errand in list(self._waiting):
                if errand.left or len(self._running) + len(taken) < errand.concurrency:
                    self._waiting.remove(errand)
                    taken.append(errand)
        for errand in taken:
            self._begin(errand)
        return True

    def _begin(self, errand: Errand) -> None:
        try:
            errand.session = errand.open()
            self._scheduler.start(errand.session.task)
        except Exception as error:
            errand.tell(error)
        else:
            self._running.append(errand)

    def _pass_on(self, errand: Errand) -> None:
        """Tell what is new of an answer, and let go of it once it ends."""
        assert errand.session is not None
        task = errand.session.task
        if errand.left and not task.done:
            self._scheduler.cancel(task)
        while task.events:
            errand.tell(task.events.popleft())
        if task.done:
            self._running.remove(errand)
            errand.tell(_result(errand.session))

    def _advance(self) -> None:
        tasks = [errand.session.task for errand in self._running if errand.session is not None]
        if not tasks:
            return
        try:
            self._scheduler.advance(tasks, events=True)
        except Exception as error:
            for errand in self._running:
                errand.tell(error)
            self._running.clear()


def _result(session: Session) -> Completion | Exception:
    try:
        return session.collect()
    except Exception as error:
        return error


class AsyncStream(AsyncIterator[Commit]):
    """Commits as they are made, from the first `anext` on. `completion` is there after the iteration.

    `aclose`, or the end of an `async with` block, stops the work early, as does cancelling who waits for a commit.
    """

    def __init__(self, backend: Backend, open: Callable[[], Session], concurrency: int):
        self.completion: Completion | None = None
        self._runner, self._open, self._concurrency = Runner.of(backend), open, concurrency
        self._news: asyncio.Queue[News] = asyncio.Queue()
        self._errand: Errand | None = None
        self._over = False

    def _start(self) -> Errand:
        loop, news = asyncio.get_running_loop(), self._news

        def tell(what: News) -> None:  # holds no stream, which may be dropped
            try:
                loop.call_soon_threadsafe(news.put_nowait, what)
            except RuntimeError:  # the loop was closed
                errand.left = True

        errand = Errand(self._open, tell, self._concurrency)
        self._runner.submit(errand)
        return errand

    async def __anext__(self) -> Commit:
        if self._over:
            raise StopAsyncIteration
        if self._errand is None:
            self._errand = self._start()
        try:
            news = await self._news.get()
        except asyncio.CancelledError:
            self._runner.leave(self._errand)
            raise
        if isinstance(news, Commit):
            return news
        self._over = True
        if isinstance(news, Exception):
            raise news
        self.completion = news
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop; what was committed so far becomes the completion, with finish_reason "cancelled"."""
        if self._errand is None or self._over:
            self._over = True
            return
        self._runner.leave(self._errand)
        with suppress(RainError):
            async for _ in self:
                pass

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._errand is not None:
            self._errand.left = True
