"""Runs many programs at once: gathers what they ask for and hands it to the backend as one batch.

A program is a generator. It yields a list of backend requests, which may run at the same time, and receives
the list of their values; `Launch`, `Await` or `Drop`, to let other programs run beside it, here or on another
backend; or an event, which is passed on to whoever listens, and receives None. A program that is to end early
receives `Interrupted` instead of values, and may still finish what it has.
"""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, ClassVar, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

from rain_decoding.backends.base import Backend, Handle, Reply
from rain_decoding.types import Await, BackendRequest, Branch, Drop, FinishReason, Launch

Event = TypeVar("Event")
Result = TypeVar("Result")
Program = Generator[list[BackendRequest] | Launch | Await | Drop | Event, Any, Result]


COSTS = ("forwarded", "requests")
"""What a `Handle` counts."""


class Interrupted(Exception):  # noqa: N818 - no error
    """Raised in a program that is to end before it has what it asked for; `reason` says why."""

    def __init__(self, reason: FinishReason):
        super().__init__(reason)
        self.reason = reason


def never() -> None:
    """No interruption."""


class Task(Generic[Event, Result]):
    """A program that runs. `events` are those not yet taken; the numbers what it has cost so far.

    `interruption` is asked before every step; once it names a reason, the program is interrupted. A task that a
    program launched has that program's task as its `parent`, which bears its costs and its errors.
    """

    def __init__(
        self,
        program: Program[Event, Result],
        owner: int,
        interruption: Callable[[], FinishReason | None] = never,
        parent: Task | None = None,
    ):
        self.program, self.owner, self.interruption = program, owner, interruption
        self.parent = parent
        self.children: list[Task] = []
        """Launched by the program and not yet done."""
        self.awaited: tuple[Branch, ...] = ()
        """The program waits until one of these is done."""
        self.events: deque[Event] = deque()
        self.handles: list[Handle] = []
        """The requests that the program waits for."""
        self.values: dict[Handle, Any] = {}
        self.scheduler: Scheduler | None = None
        """Where it runs."""
        self.answered: Counter[str] = Counter()
        """What the requests cost that the program no longer waits for, by `COSTS`."""
        self.answered_elsewhere = 0
        """Tokens of that which other backends forwarded."""
        self.passes = 0
        self.peak_kv_slots = 0
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    def cost(self, kind: str) -> int:
        """What one of `COSTS` comes to so far, with that of unfinished requests and of children."""
        running = sum(getattr(handle, kind) for handle in self.handles)
        return self.answered[kind] + running + sum(child.cost(kind) for child in self.children)

    @property
    def forwarded(self) -> int:
        """Tokens forwarded so far, those of unfinished requests and of children included."""
        return self.cost("forwarded")

    @property
    def forwarded_elsewhere(self) -> int:
        """How many of the tokens `forwarded` other backends forwarded."""
        return self.answered_elsewhere + sum(map(self.abroad, self.children))

    def abroad(self, child: Task) -> int:
        """Tokens that a child had forwarded elsewhere than here."""
        return child.forwarded_elsewhere if child.scheduler is self.scheduler else child.forwarded

    @property
    def root(self) -> Task:
        """The task that a caller started and whose program launched this one, directly or not."""
        return self.parent.root if self.parent else self


class Scheduler:
    """Advances all its tasks together, one backend step at a time.

    A step works on everything that is pending in the backend, so a backend has one scheduler: `Scheduler.of`.
    Where its tasks have programs on other backends, it steps the schedulers of these along.
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
        self._guests: set[Task] = set()
        """Tasks that run elsewhere for tasks here."""

    @property
    def backend(self) -> Backend:
        backend = self._backend()
        assert backend is not None, "the backend outlives its tasks"
        return backend

    def start(self, task: Task) -> None:
        """Add a task; its program runs up to its first requests at once."""
        self.tasks.append(task)
        self._begin(task)

    def step(self, stepped: frozenset[Scheduler] = frozenset()) -> bool:
        """One step of the backend, and of others that guests run on; programs that have all they want go on.

        `stepped` are the schedulers that this step comes from: a guest's guest may run on one of them. Returns whether
        one of the backends did anything; one behind HTTP may have waited only.
        """
        self._interrupt()
        worked = bool(self._waiting) and self._step_backend()
        path = stepped | {self}
        for other in self._hosts() - path:
            if worked:
                other.backend.wake()  # what runs here is not to wait for it
            worked |= other.step(path)
        return worked

    def wake(self) -> None:
        """Let a step that waits come back at once. May be called from any thread."""
        for scheduler in {self} | self._hosts():
            scheduler.backend.wake()

    def _hosts(self) -> set[Scheduler]:
        """Where guests run."""
        return {guest.scheduler for guest in list(self._guests) if guest.scheduler is not None}

    def _interrupt(self) -> None:
        for task in list(self.tasks):
            if reason := task.interruption():
                task.interruption = never
                self._withdraw(task)
                self._resume(task, Interrupted(reason))

    def _step_backend(self) -> bool:
        """One step of the backend; whether it did anything."""
        active, counters = {task.root for task in self._waiting.values()}, self.backend.counters
        before, forwarded = counters.forward_passes, counters.tokens_forwarded
        replies = self.backend.step()
        for task in active:
            task.passes += counters.forward_passes - before
            if task.scheduler is self:
                task.peak_kv_slots = max(task.peak_kv_slots, counters.kv_slots)
        for reply in replies:
            self._deliver(reply)
        return bool(replies) or (counters.forward_passes, counters.tokens_forwarded) != (before, forwarded)

    def run(self, tasks: Iterable[Task], width: int) -> Generator[Task, None, None]:
        """Run tasks, at most `width` >= 1 at the same time, and yield each when it is done.

        A task is taken when there is room for it. Those that run when the caller leaves are cancelled.
        """
        waiting = iter(tasks)
        running: list[Task] = []
        try:
            while True:
                while len(running) < width and (task := next(waiting, None)) is not None:
                    running.append(task)
                    self.start(task)
                if not running:
                    return
                for task in [task for task in running if task.done]:
                    running.remove(task)
                    yield task
                if running and not any(task.done for task in running):
                    self.step()
        finally:
            for task in running:
                self.cancel(task)

    def complete(self, program: Program[Event, Result], owner: int) -> Result:
        """Run one program to its end; what it returns. Raises what ended it."""
        task = Task(program, owner)
        try:
            self.start(task)
            while not task.done:
                self.step()
        finally:
            self.cancel(task)
        if task.error is not None:
            raise task.error
        return cast(Result, task.result)

    def cancel(self, task: Task) -> None:
        """Stop a task, here or elsewhere; nothing of it stays queued."""
        home = task.scheduler or self
        home._withdraw(task)
        task.program.close()
        home._end(task)

    def _begin(self, task: Task) -> None:
        task.scheduler = self
        self._resume(task, None)

    def _withdraw(self, task: Task) -> None:
        """Let the task wait for nothing: its requests are cancelled, its children stopped."""
        task.awaited = ()
        for handle in task.handles:
            if self._waiting.pop(handle, None):
                self.backend.cancel(handle)
        for child in list(task.children):
            self.cancel(child)

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

    def _resume(self, task: Task, value: Any) -> None:
        """Run a program on to where it waits, with a value or an interruption."""
        for kind in COSTS:
            task.answered[kind] += sum(getattr(handle, kind) for handle in task.handles)
        task.handles, task.values = [], {}
        try:
            go_on = task.program.throw if isinstance(value, Interrupted) else task.program.send
            wanted = go_on(value)
            while not self._waits(task, wanted):
                wanted = task.program.send(self._serve(task, wanted))
        except StopIteration as stop:
            task.result = stop.value
            self._end(task)
        except Exception as error:
            self._fail(task, error)

    def _waits(self, task: Task, wanted: Any) -> bool:
        """Whether the program has to wait for what it yielded."""
        if isinstance(wanted, Await):
            if not any(child.done for child in wanted.branches):
                task.awaited = tuple(wanted.branches)
            return bool(task.awaited)
        if not isinstance(wanted, list):
            return False
        for request in wanted:
            handle = self.backend.submit(request, task.owner)
            task.handles.append(handle)
            self._waiting[handle] = task
        return True

    def _serve(self, task: Task, wanted: Any) -> Task | None:
        """Do at once what a program yielded; the reply to it."""
        match wanted:
            case Launch(program, None):
                return self._launch(Task(program, task.owner, parent=task), self)
            case Launch(program, backend, owner):
                return self._launch(Task(program, owner, parent=task), Scheduler.of(backend))
            case Drop():
                if not wanted.branch.done:
                    self.cancel(wanted.branch)
            case Await():
                pass
            case _:
                task.events.append(wanted)
        return None

    def _launch(self, child: Task, home: Scheduler) -> Task:
        assert child.parent is not None
        child.parent.children.append(child)
        if home is not self:
            self._guests.add(child)
        home._begin(child)
        return child

    def _fail(self, task: Task, error: BaseException) -> None:
        """End the task with an error, and with it the whole that it is a part of."""
        task.root.error = error
        self.cancel(task.root)

    def _end(self, task: Task) -> None:
        for child in list(task.children):
            self.cancel(child)
        task.done = True
        if task in self.tasks:
            self.tasks.remove(task)
        parent = task.parent
        if parent is None or task not in parent.children:
            return
        assert parent.scheduler is not None
        parent.scheduler._guests.discard(task)
        parent.children.remove(task)
        for kind in COSTS:
            parent.answered[kind] += task.cost(kind)
        parent.answered_elsewhere += parent.abroad(task)
        if task in parent.awaited:
            parent.awaited = ()
            parent.scheduler._resume(parent, None)
