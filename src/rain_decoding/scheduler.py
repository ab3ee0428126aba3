"""Runs many programs at once: gathers what they ask for and hands it to the backend as one batch.

A program is a generator. It yields a list of backend requests, which may run at the same time, and receives
the list of their values; or it yields an event, which is passed on to whoever listens, and receives None. A
program that is to end early receives `Interrupted` instead of values, and may still finish what it has.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

from rain_decoding.backends.base import Backend, Handle, Reply
from rain_decoding.types import BackendRequest, FinishReason

Event = TypeVar("Event")
Result = TypeVar("Result")
Program = Generator[list[BackendRequest] | Event, Any, Result]


class Interrupted(Exception):  # noqa: N818 - no error
    """Raised in a program that is to end before it has what it asked for; `reason` says why."""

    def __init__(self, reason: FinishReason):
        super().__init__(reason)
        self.reason = reason


def never() -> None:
    """No interruption."""


class Task(Generic[Event, Result]):
    """A program that runs. `events` are those not yet taken; the numbers what it has cost so far.

    `interruption` is asked before every step; once it names a reason, the program is interrupted.
    """

    def __init__(
        self,
        program: Program[Event, Result],
        owner: int,
        interruption: Callable[[], FinishReason | None] = never,
    ):
        self.program, self.owner, self.interruption = program, owner, interruption
        self.events: deque[Event] = deque()
        self.handles: list[Handle] = []
        """The requests that the program waits for."""
        self.values: dict[Handle, Any] = {}
        self.answered = 0
        """Tokens forwarded for requests that the program no longer waits for."""
        self.passes = 0
        self.peak_kv_slots = 0
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    @property
    def forwarded(self) -> int:
        """Tokens forwarded so far, those of unfinished requests included."""
        return self.answered + sum(handle.forwarded for handle in self.handles)


class Scheduler:
    """Advances all its tasks together, one backend step at a time.

    A step works on everything that is pending in the backend, so a backend has one scheduler: `Scheduler.of`.
    """

    _of: ClassVar[WeakKeyDictionary[Backend, Scheduler]] = WeakKeyDictionary()

    @classmethod
    def of(cls, backend: Backend) -> Scheduler:
        """The scheduler of this backend."""
        return cls._of.setdefault(backend, cls(backend))

    def __init__(self, backend: Backend):
        self._backend = weakref.ref(backend)
        self.tasks: list[Task] = []
        self._waiting: dict[Handle, Task] = {}

    @property
    def backend(self) -> Backend:
        backend = self._backend()
        assert backend is not None, "the backend outlives its tasks"
        return backend

    def start(self, task: Task) -> None:
        """Add a task; its program runs up to its first requests at once."""
        self.tasks.append(task)
        self._resume(task, None)

    def step(self) -> None:
        """One backend step; programs whose requests are complete go on to their next."""
        for task in list(self.tasks):
            if reason := task.interruption():
                task.interruption = never
                self._withdraw(task)
                self._resume(task, Interrupted(reason))
        if not self._waiting:
            return
        active, counters = set(self._waiting.values()), self.backend.counters
        before = counters.forward_passes
        replies = self.backend.step()
        for task in active:
            task.passes += counters.forward_passes - before
            task.peak_kv_slots = max(task.peak_kv_slots, counters.kv_slots)
        for reply in replies:
            self._deliver(reply)

    def cancel(self, task: Task) -> None:
        """Stop a task; nothing of it stays queued."""
        self._withdraw(task)
        task.program.close()
        self._end(task)

    def _withdraw(self, task: Task) -> None:
        for handle in task.handles:
            if self._waiting.pop(handle, None):
                self.backend.cancel(handle)

    def _deliver(self, reply: Reply) -> None:
        task = self._waiting.pop(reply.handle, None)
        if task is None:
            return
        if reply.error is not None:
            self._fail(task, reply.error)
            return
        task.values[reply.handle] = reply.value
        if len(task.values) == len(task.handles):
            self._resume(task, [task.values[handle] for handle in task.handles])

    def _resume(self, task: Task, values: list[Any] | Interrupted | None) -> None:
        """Run a program on to its next requests, with values or an interruption."""
        task.answered, task.handles, task.values = task.forwarded, [], {}
        try:
            go_on = task.program.throw if isinstance(values, Interrupted) else task.program.send
            requested = go_on(values)  # type: ignore[arg-type]
            while not isinstance(requested, list):
                task.events.append(requested)
                requested = task.program.send(None)
            for request in requested:
                handle = self.backend.submit(request, task.owner)
                task.handles.append(handle)
                self._waiting[handle] = task
        except StopIteration as stop:
            task.result = stop.value
            self._end(task)
        except Exception as error:
            self._fail(task, error)

    def _fail(self, task: Task, error: BaseException) -> None:
        task.error = error
        self.cancel(task)

    def _end(self, task: Task) -> None:
        task.done = True
        if task in self.tasks:
            self.tasks.remove(task)
