"""Runs many programs at once: gathers what they ask for and hands it to the backend as one batch.

A program is a generator. It yields a list of backend requests, which may run at the same time, and receives the list
of their values; or it yields an event, which is passed on to whoever listens, and receives None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from rain_decoding.backends.base import Backend, Handle, Reply
from rain_decoding.types import BackendRequest

Event = TypeVar("Event")
Result = TypeVar("Result")
Program = Generator[list[BackendRequest] | Event, Any, Result]


class Task(Generic[Event, Result]):
    """A program that runs. `events` are those not yet taken; the numbers what it has cost so far."""

    def __init__(self, program: Program[Event, Result], owner: int):
        self.program, self.owner = program, owner
        self.events: deque[Event] = deque()
        self.handles: list[Handle] = []
        self.values: dict[Handle, Any] = {}
        self.forwarded = 0
        self.passes = 0
        self.peak_kv_slots = 0
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None


class Scheduler:
    """Advances all its tasks together, one backend step at a time."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.tasks: list[Task] = []
        self._waiting: dict[Handle, Task] = {}

    def start(self, program: Program[Event, Result], owner: int) -> Task[Event, Result]:
        """Add a program; it runs up to its first requests at once."""
        task = Task(program, owner)
        self.tasks.append(task)
        self._resume(task, None)
        return task

    def step(self) -> None:
        """One backend step; programs whose requests are complete go on to their next."""
        active = set(self._waiting.values())
        replies = self.backend.step()
        for task in active:
            task.passes += 1
            task.peak_kv_slots = max(task.peak_kv_slots, self.backend.counters.kv_slots)
        for reply in replies:
            self._deliver(reply)

    def cancel(self, task: Task) -> None:
        """Stop a task; nothing of it stays queued."""
        for handle in task.handles:
            if self._waiting.pop(handle, None):
                task.forwarded += handle.forwarded
                self.backend.cancel(handle)
        task.program.close()
        self._end(task)

    def _deliver(self, reply: Reply) -> None:
        task = self._waiting.pop(reply.handle, None)
        if task is None:
            return
        task.forwarded += reply.handle.forwarded
        if reply.error is not None:
            self._fail(task, reply.error)
            return
        task.values[reply.handle] = reply.value
        if len(task.values) == len(task.handles):
            self._resume(task, [task.values[handle] for handle in task.handles])

    def _resume(self, task: Task, values: Any) -> None:
        try:
            requested = task.program.send(values)
            while not isinstance(requested, list):
                task.events.append(requested)
                requested = task.program.send(None)
            task.values = {}
            task.handles = [self.backend.submit(request, task.owner) for request in requested]
            self._waiting.update(dict.fromkeys(task.handles, task))
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
