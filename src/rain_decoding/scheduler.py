"""Runs many programs at once: gathers what they ask for and hands it to the backend as one batch.

Requests of a program (see `rain_decoding.programs`) go to the backend, but for `Launch`, `Await` and `Drop`, which let
other programs run beside it, here or on another backend. What it yields besides requests are events, which are passed
on to whoever listens. A program that is to end early receives `Interrupted` instead of a reply, and may still finish
what it has.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from rain_decoding.backends.base import Backend, Counters, Handle, Reply
from rain_decoding.errors import BackendError
from rain_decoding.programs import Await, Branch, Drop, Launch, Program, Request, Together
from rain_decoding.turns import TURN, Shared, in_turn
from rain_decoding.types import FinishReason

Event = TypeVar("Event")
Result = TypeVar("Result")
Key = TypeVar("Key")

COSTS = ("forwarded", "spared", "requests")
"""What a `Handle` counts."""


class Interrupted(Exception):  # noqa: N818 - no error
    """Raised in a program that is to end before it has what it asked for; `reason` says why."""

    def __init__(self, reason: FinishReason):
        super().__init__(reason)
        self.reason = reason


def never() -> None:
    """No interruption."""


class Steppable(Protocol):
    """What a scheduler needs of a backend, or of another model that answers requests of its own kind."""

    counters: Counters

    def submit(self, request: Any, owner: int) -> Handle:
        """Queue a request."""
        ...

    def step(self) -> list[Reply]:
        """Do one unit of work for everything pending and return what is ready."""
        ...

    def wake(self) -> None:
        """Let a step that waits come back at once. May be called from any thread."""
        ...

    def cancel(self, handle: Handle) -> None:
        """Forget a request; no reply will come."""
        ...


class Task(Generic[Event, Result]):
    """A program that runs. `events` are those not yet taken; the numbers what it has cost so far.

    `interruption` is asked before every step; once it names a reason, the program is interrupted. A task that a
    program launched has that program's task as its `parent`, which bears its costs and its errors.
    """

    def __init__(
        self,
        program: Generator[Request[object] | Event, object, Result],
        owner: int,
        interruption: Callable[[], FinishReason | None] = never,
        parent: AnyTask | None = None,
    ):
        self.program, self.owner, self.interruption = program, owner, interruption
        self.parent = parent
        self.children: list[AnyTask] = []
        """Launched by the program and not yet done."""
        self.awaited: tuple[Branch[object], ...] = ()
        """The program waits until one of these is done."""
        self.events: deque[Event] = deque()
        self.handles: list[Handle] = []
        """The requests that the program waits for."""
        self.together = False
        """It asked for them in one, and gets the list of their values."""
        self.values: dict[Handle, object] = {}
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
        running: int = sum(getattr(handle, kind) for handle in self.handles)
        return self.answered[kind] + running + sum(child.cost(kind) for child in self.children)

    @property
    def forwarded(self) -> int:
        """Tokens forwarded so far, those of unfinished requests and of children included."""
        return self.cost("forwarded")

    @property
    def forwarded_elsewhere(self) -> int:
        """How many of the tokens `forwarded` other backends forwarded."""
        return self.answered_elsewhere + sum(map(self.abroad, self.children))

    def abroad(self, child: AnyTask) -> int:
        """Tokens that a child had forwarded elsewhere than here."""
        return child.forwarded_elsewhere if child.scheduler is self.scheduler else child.forwarded

    @property
    def root(self) -> AnyTask:
        """The task that a caller started and whose program launched this one, directly or not."""
        return self.parent.root if self.parent else self


AnyTask = Task[Any, Any]


class Scheduler(Shared):
    """Advances all its tasks together, one backend step at a time.

    A step works on everything that is pending in the backend, so a backend has one scheduler, which only `Scheduler.of`
    makes. Where its tasks have programs on other backends, it steps the schedulers of these along. Threads may share
    it: each steps it until its own task is done, and a step of any of them serves all.
    """

    _of: ClassVar[WeakKeyDictionary[Steppable, Scheduler]] = WeakKeyDictionary()

    @classmethod
    def of(cls, backend: Steppable) -> Scheduler:
        """The scheduler of this backend."""
        with TURN:
            if (scheduler := cls._of.get(backend)) is None:
                scheduler = cls._of[backend] = cls(backend)
            return scheduler

    def __init__(self, backend: Steppable):
        self._backend = weakref.ref(backend)
        self.tasks: list[AnyTask] = []
        self._waiting: dict[Handle, AnyTask] = {}
        self._guests: set[AnyTask] = set()
        """Tasks that run elsewhere for tasks here."""
        self._abandoned: deque[Callable[[], None]] = deque()
        """What is to be given back of streams that nobody holds any more."""

    @property
    def backend(self) -> Steppable:
        backend = self._backend()
        assert backend is not None, "the backend outlives its tasks"
        return backend

    @in_turn
    def start(self, task: AnyTask) -> None:
        """Add a task; its program runs up to its first requests at once."""
        self._give_back()
        self.tasks.append(task)
        self._begin(task)

    @in_turn
    def advance(self, own: Sequence[AnyTask], *, events: bool = False) -> None:
        """One step for a caller's own tasks, unless a step of another thread has ended one of them already.

        With `events`, it is enough that such a step has brought one some. Ctrl-C meanwhile ends other threads' tasks
        with an error: what they waited for may be lost.
        """
        if any(task.done or (events and task.events) for task in own):
            return
        try:
            self.step()
        except BaseException as error:
            told = BackendError("another thread, which worked for all, was interrupted", hint="ask again")
            told.__cause__ = error
            for scheduler in {self} | self._hosts():
                scheduler._fail([*scheduler.tasks, *scheduler._waiting.values()], told, but=own)
            raise

    @in_turn
    def step(self, stepped: frozenset[Scheduler] = frozenset()) -> bool:
        """One step of the backend, and of others that guests run on; programs that have all they want go on.

        `stepped` are the schedulers that this step comes from: a guest's guest may run on one of them. Returns whether
        one of the backends did anything; one behind HTTP may have waited only. Where the backend fails, its error ends
        the tasks that wait for it: what they waited for may be lost.
        """
        self._give_back()
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

    def abandon(self, give_back: Callable[[], None]) -> None:
        """Do this at once if nobody works, else before the next step. May be called wherever garbage is collected."""
        if self.process != os.getpid():
            return
        self._abandoned.append(give_back)
        if TURN.try_acquire():
            try:
                self._give_back()
            finally:
                TURN.release()

    def _give_back(self) -> None:
        while self._abandoned:
            self._abandoned.popleft()()

    def _interrupt(self) -> None:
        for task in list(self.tasks):
            try:
                reason = task.interruption()
            except Exception as error:
                self._fail([task], error)
                continue
            if reason:
                task.interruption = never
                self._withdraw(task)
                self._resume(task, Interrupted(reason))

    def _step_backend(self) -> bool:
        """One step of the backend; whether it did anything."""
        active, counters = {task.root for task in self._waiting.values()}, self.backend.counters
        before, forwarded = counters.forward_passes, counters.tokens_forwarded
        try:
            replies = self.backend.step()
        except Exception as error:
            self._fail(self._waiting.values(), error)
            return True
        for task in active:
            task.passes += counters.forward_passes - before
            if task.scheduler is self:
                task.peak_kv_slots = max(task.peak_kv_slots, counters.kv_slots)
        for reply in replies:
            self._deliver(reply)
        return bool(replies) or (counters.forward_passes, counters.tokens_forwarded) != (before, forwarded)

    def run(self, tasks: Iterable[AnyTask], width: int) -> Generator[AnyTask, None, None]:
        """Run tasks, at most `width` >= 1 at the same time, and yield each when it is done.

        A task is taken when there is room for it. Those that run when the caller leaves are cancelled.
        """
        waiting = iter(tasks)
        running: list[AnyTask] = []
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
                if running:
                    self.advance(running)
        finally:
            for task in running:
                self.cancel(task)

    def complete(self, program: Program[Result], owner: int) -> Result:
        """Run one program to its end; what it returns. Raises what ended it."""
        task: Task[Any, Result] = Task(program, owner)
        try:
            self.start(task)
            while not task.done:
                self.advance([task])
        finally:
            self.cancel(task)
        if task.error is not None:
            raise task.error
        return cast(Result, task.result)

    @in_turn
    def cancel(self, task: AnyTask) -> None:
        """Stop a task, here or elsewhere; nothing of it stays queued."""
        home = task.scheduler or self
        home._withdraw(task)
        task.program.close()
        home._end(task)

    def _begin(self, task: AnyTask) -> None:
        task.scheduler = self
        self._resume(task, None)

    def _withdraw(self, task: AnyTask) -> None:
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
            self._fail([task], reply.error)
            return
        task.values[reply.handle] = reply.value
        if len(task.values) == len(task.handles):
            values = [task.values[handle] for handle in task.handles]
            self._resume(task, values if task.together else values[0])

    def _resume(self, task: AnyTask, reply: object) -> None:
        """Run a program on to where it waits, with a reply or an interruption."""
        for kind in COSTS:
            task.answered[kind] += sum(getattr(handle, kind) for handle in task.handles)
        task.handles, task.values = [], {}
        try:
            program = task.program
            wanted = program.throw(reply) if isinstance(reply, Interrupted) else program.send(reply)
            while not self._waits(task, wanted):
                wanted = program.send(self._serve(task, wanted))
        except StopIteration as stop:
            task.result = stop.value
            self._end(task)
        except Exception as error:
            self._fail([task], error)

    def _waits(self, task: AnyTask, wanted: object) -> bool:
        """Whether the program has to wait for what it yielded."""
        match wanted:
            case Launch() | Drop():
                return False
            case Await(branches):
                if not any(branch.done for branch in branches):
                    task.awaited = tuple(branches)
                return bool(task.awaited)
            case Together(requests):
                return self._submit(task, requests, together=True)
            case Request():
                return self._submit(task, [wanted], together=False)
        return False

    def _submit(self, task: AnyTask, requests: Sequence[Request[object]], *, together: bool) -> bool:
        task.together = together
        for request in requests:
            handle = self.backend.submit(request, task.owner)
            task.handles.append(handle)
            self._waiting[handle] = task
        return True

    def _serve(self, task: AnyTask, wanted: object) -> AnyTask | None:
        """Do at once what a program yielded; the reply to it."""
        match wanted:
            case Launch(program, None):
                return self._launch(Task(program, task.owner, parent=task), self)
            case Launch(program, backend, owner):
                return self._launch(Task(program, owner, parent=task), Scheduler.of(backend))
            case Drop(branch):
                assert isinstance(branch, Task)
                if not branch.done:
                    self.cancel(branch)
            case Await():
                pass
            case _:
                task.events.append(wanted)
        return None

    def _launch(self, child: AnyTask, home: Scheduler) -> AnyTask:
        assert child.parent is not None
        child.parent.children.append(child)
        if home is not self:
            self._guests.add(child)
        home._begin(child)
        return child

    def _fail(self, tasks: Iterable[AnyTask], error: BaseException, but: Sequence[AnyTask] = ()) -> None:
        """End tasks with an error, and with each the whole that it is a part of."""
        for root in {task.root for task in tasks}.difference(but):
            root.error = error
            self.cancel(root)

    def _end(self, task: AnyTask) -> None:
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


def results_of(
    backend: Backend, programs: Iterable[tuple[Key, Program[Result]]], concurrency: int
) -> Iterator[tuple[Key, Result]]:
    """Run programs that nobody listens to, `concurrency` at once, each with an owner of its own.

    Yields what each was called and its result, as they are done. However it ends, no owner keeps anything. Raises the
    first program's error.
    """
    names: dict[AnyTask, Key] = {}

    def tasks() -> Iterator[AnyTask]:
        for name, program in programs:
            task: AnyTask = Task(program, backend.new_owner())
            names[task] = name
            yield task

    try:
        with closing(Scheduler.of(backend).run(tasks(), concurrency)) as finished:
            for task in finished:
                name = names.pop(task)
                backend.finish(task.owner)
                if task.error is not None:
                    raise task.error
                yield name, cast(Result, task.result)
    finally:
        for task in names:
            backend.finish(task.owner)
