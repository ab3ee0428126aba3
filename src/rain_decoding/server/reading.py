"""Prompts are read beside the model's thread: one at a time, and of each client in turn."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from rain_decoding.backends.base import Codec
from rain_decoding.errors import ContextLengthError
from rain_decoding.web.errors import late, queue_full

T = TypeVar("T")
Waiting = tuple[Callable[[], Any], "asyncio.Future[Any]"]

PIECE = 4096
"""Characters that are read at once to find out whether a long text can fit."""
SEAM = 8
"""Tokens that a text may have less than two pieces of it."""


class PromptReader:
    """Reads prompts in a thread of its own, so that no step of the model waits for a tokenizer.

    Whoever sends many of them waits for them; another client's next prompt is read after at most one of theirs.
    """

    def __init__(self, room: int, seconds: float):
        """At most `room` prompts wait, and none is read for longer than `seconds`."""
        self.room, self.seconds = room, seconds
        self._clients: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._pump: asyncio.Task[None] | None = None

    async def read(self, client: str, work: Callable[[], T]) -> T:
        """What `work` reads. Raises what it raises, and `ApiError`: 429 where too many wait, 504 where it hangs."""
        if sum(map(len, self._clients.values())) >= self.room:
            self._make_room(client)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._clients.setdefault(client, deque()).append((work, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._read_all())
        try:
            return await future
        finally:
            future.cancel()

    def _make_room(self, client: str) -> None:
        """Give up the newest prompt of the client that has most. Raises `ApiError` where that is this one."""
        crowded = max(self._clients, key=lambda name: len(self._clients[name]))
        if len(self._clients[crowded]) <= len(self._clients.get(client, ())) + 1:
            raise queue_full()
        _, future = self._clients[crowded].pop()
        _tell(future, queue_full())

    async def _read_all(self) -> None:
        try:
            while self._clients:
                client, waiting = self._clients.popitem(last=False)
                work, future = waiting.popleft()
                if waiting:
                    self._clients[client] = waiting  # behind the others
                if not future.done():
                    await self._read(work, future)
        finally:  # also where the event loop ends
            self._clients.clear()
            self._pump = None

    async def _read(self, work: Callable[[], T], future: asyncio.Future[T]) -> None:
        try:
            prompt = await asyncio.wait_for(asyncio.wrap_future(in_thread(work)), self.seconds)
        except TimeoutError:  # what hangs keeps its thread, and nobody else
            _tell(future, late())
        except Exception as error:
            _tell(future, error)
        else:
            if not future.done():
                future.set_result(prompt)


def in_thread(work: Callable[[], T]) -> Future[T]:
    """What `work` comes to. Its thread does not keep the process from ending."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            prompt = work()
        except BaseException as error:
            _tell(found, error)
        else:
            if found.set_running_or_notify_cancel():
                found.set_result(prompt)

    threading.Thread(target=run, name="rain-reader", daemon=True).start()
    return found


def _tell(future: asyncio.Future[Any] | Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def check_fits(texts: Iterable[str], codec: Codec, context_length: int) -> None:
    """Raise `ContextLengthError` where the texts have more tokens than the context, without reading much more of them.

    A text of fewer characters than the context has tokens is taken to fit, and found out later where it does not.
    """
    texts = list(texts)
    if sum(map(len, texts)) <= context_length:
        return
    most = context_length
    for text in texts:
        for start in range(0, len(text), PIECE):
            most -= max(0, len(codec.encode(text[start : start + PIECE], start=False)) - SEAM)
            if most < 0:
                raise ContextLengthError(
                    f"the prompt has more tokens than the context of {context_length}",
                    hint="shorten the prompt",
                )
