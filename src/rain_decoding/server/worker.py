"""One thread owns the backend: all requests are opened, advanced and ended in it, and share its steps."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.session import Session
from rain_decoding.errors import BadReplyError, EndpointError, RainError
from rain_decoding.scheduler import Scheduler
from rain_decoding.types import Completion
from rain_decoding.web.errors import (
    ApiError,
    late,
    queue_full,
    queue_timeout,
    shutting_down,
    translated,
    unavailable,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The prompt was read and fits; the answer waits for its turn."""


@dataclass(frozen=True, slots=True)
class Released:
    """Text that is released, and what the trace says since the last time."""

    text: str
    events: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    completion: Completion


@dataclass(frozen=True, slots=True)
class Failed:
    """`error` is what a client may be told, `cause` what happened."""

    error: ApiError
    cause: Exception | None = None


News = Opened | Released | Ended | Failed


@dataclass(eq=False)
class PendingAnswer:
    """One answer to find. `open` and `listen` are called in the worker's thread; `listen` must not block."""

    open: Callable[[], Session]
    listen: Callable[[News], None]
    request_id: str = ""
    arrived: float = field(default_factory=time.perf_counter)
    session: Session | None = None
    cancelled: bool = False
    """Set by anyone; the worker lets go of the answer before its next step."""
    failed: bool = False
    """Its client was told that there will be no answer."""
    traced: int = 0
    """Trace events that were passed on."""


class Observer:
    """Is told what the worker does, in its thread, and of answers given up, in any. Does nothing by itself."""

    def released(self, tokens: int, text: str) -> None: ...

    def ended(self, completion: Completion) -> None: ...

    def failed(self, error: ApiError) -> None: ...


class Worker:
    """Runs at most `max_concurrent` answers at a time; others wait, so that there are at most `room` of both."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_concurrent: int,
        room: int,
        stuck_seconds: float,
        observer: Observer | None = None,
    ):
        self.backend = backend
        self.max_concurrent, self.room = max_concurrent, room
        self.stuck_seconds = stuck_seconds
        self.observer = observer or Observer()
        self.accepting = True
        """Whether new answers are taken; not any more once the server shuts down."""
        self._scheduler = Scheduler.of(backend)
        self._changed = threading.Condition()
        self._new: deque[PendingAnswer] = deque()
        self._waiting: deque[PendingAnswer] = deque()
        """Opened and not started."""
        self._running: list[PendingAnswer] = []
        self._stopping = False
        self._quiet_since: float | None = None
        """Since when the backend has done nothing, although there is something to do."""
        self._hanging = self._failing = False
        """What was last known of a model elsewhere."""
        self._thread = threading.Thread(target=self._work, name="rain-worker", daemon=True)

    # From any thread

    def start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    @property
    def queued(self) -> int:
        return len(self._new) + len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def stuck(self) -> bool:
        """Whether the backend does nothing for too long, or did and has given no sign of life since."""
        since = self._quiet_since
        quiet = since is not None and time.monotonic() - since > self.stuck_seconds
        return quiet or self._hanging

    @property
    def trouble(self) -> str:
        """Why the model cannot be asked now; empty: nothing is known against it."""
        if self.stuck:
            return "the model does not respond"
        return "the model's server keeps failing" if self._failing else ""

    @property
    def pending(self) -> list[PendingAnswer]:
        """All answers that have not ended."""
        with self._changed:
            return [*self._running, *self._waiting, *self._new]

    def admit(self, count: int) -> None:
        """Raise `ApiError` unless so many can be queued: 429 where the queue is full, 503 where none are taken."""
        if self.stuck:
            raise unavailable(self.trouble, "backend_stuck")
        if not self.accepting:
            raise shutting_down()
        if self.queued + self.running + count > self.room:
            raise queue_full()

    def submit(self, answers: Sequence[PendingAnswer]) -> None:
        """Queue answers, all or none. Raises as `admit`."""
        with self._changed:
            self.admit(len(answers))
            self._new.extend(answers)
            self._changed.notify()
        self._scheduler.wake()

    def cancel(self, answers: Iterable[PendingAnswer]) -> None:
        """Nobody waits for these any more."""
        for answer in answers:
            answer.cancelled = True
        with self._changed:
            self._changed.notify()
        self._scheduler.wake()

    def fail_all(self, error: ApiError) -> list[PendingAnswer]:
        """Tell whoever waits, and cancel; the answers concerned."""
        answers = [answer for answer in self.pending if not answer.cancelled]
        self.cancel(answers)
        for answer in answers:
            answer.failed = True
            self.observer.failed(error)
            answer.listen(Failed(error))
        return answers

    def watch(self) -> list[PendingAnswer]:
        """To be called every second or so, in any thread: fail whoever waits for a backend that hangs; the answers
        concerned. Asks a model that hung or failed whether it answers again."""
        if self._hanging or self._failing:
            self._check()
        elif self.stuck:
            self._hanging = True
            return self.fail_all(late())
        return []

    def _check(self) -> None:
        try:
            self.backend.check()
        except RainError as error:
            log.warning("%s: %s", self.trouble, error)
        else:
            self._hanging = self._failing = False

    def stop(self, seconds: float = 10.0) -> None:
        """Cancel everything and end the thread, if the backend comes back within `seconds`."""
        self.accepting = False
        self._stopping = True
        self.cancel(self.pending)
        self._thread.join(seconds)

    # In the worker's thread

    def _work(self) -> None:
        while self._wait():
            self._quiet_since = self._quiet_since or time.monotonic()
            self._open_new()
            self._drop_cancelled()
            self._drop_late()
            self._start_waiting()
            worked = self._step()
            for answer in list(self._running):
                self._report(answer)
            if worked or not (self._running or self._waiting):
                self._quiet_since = None

    def _wait(self) -> bool:
        """Wait for something to do; False once all is done and the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self.queued or self.running)
        return bool(not self._stopping or self.queued or self.running)

    def _open_new(self) -> None:
        while self._new:
            answer = self._new[0]
            if not answer.cancelled:
                self._open(answer)
            with self._changed:
                self._new.popleft()
                if answer.session is not None:
                    self._waiting.append(answer)

    def _open(self, answer: PendingAnswer) -> None:
        try:
            answer.session = answer.open()
        except Exception as error:
            self._tell_failure(answer, error)
        else:
            answer.session.started = answer.arrived  # its time runs since then
            self._tell(answer, Opened())

    def _drop_cancelled(self) -> None:
        for answer in [answer for answer in self._waiting if answer.cancelled]:
            self._waiting.remove(answer)
        for answer in [answer for answer in self._running if answer.cancelled]:
            self._end(answer)

    def _drop_late(self) -> None:
        """Those whose time ran out in the queue: there is no text to give them."""
        for answer in list(self._waiting):
            assert answer.session is not None
            if answer.session.interruption() is not None:
                self._waiting.remove(answer)
                self._tell_failure(answer, queue_timeout())

    def _start_waiting(self) -> None:
        while self._waiting and self.running < self.max_concurrent:
            with self._changed:
                answer = self._waiting.popleft()
                self._running.append(answer)
            assert answer.session is not None
            self._scheduler.start(answer.session.task)

    def _step(self) -> bool:
        """One step of the backend; whether it did anything."""
        try:
            return self._scheduler.step()
        except Exception as error:
            # Whose request it was is not known, and what the others waited for may be lost.
            for answer in list(self._running):
                self._tell_failure(answer, error)
                self._end(answer)
            return True

    def _report(self, answer: PendingAnswer) -> None:
        """Pass on what an answer has come to."""
        assert answer.session is not None
        task = answer.session.task
        while task.events:
            commit = task.events.popleft()
            self.observer.released(len(commit.tokens), commit.text)
            if commit.text:
                self._tell(answer, Released(commit.text, self._news(answer)))
        if task.done:
            self._end(answer)
        elif events := self._news(answer):
            self._tell(answer, Released("", events))

    def _news(self, answer: PendingAnswer) -> Sequence[dict[str, Any]]:
        assert answer.session is not None
        events = answer.session.trace[answer.traced :]
        answer.traced += len(events)
        return events

    def _end(self, answer: PendingAnswer) -> None:
        """Give back what an answer holds, and pass on its completion or its error."""
        assert answer.session is not None
        self._running.remove(answer)
        try:
            if not answer.session.task.done:
                self._scheduler.cancel(answer.session.task)
            completion = answer.session.collect()
        except Exception as error:
            self._tell_failure(answer, error)
            return
        if answer.failed:
            return
        self._failing = False
        self.observer.ended(completion)
        if events := self._news(answer):
            self._tell(answer, Released("", events))
        self._tell(answer, Ended(completion))

    def _tell(self, answer: PendingAnswer, news: News) -> None:
        if answer.cancelled:
            return
        try:
            answer.listen(news)
        except RuntimeError:  # the listener's event loop is gone
            answer.cancelled = True

    def _tell_failure(self, answer: PendingAnswer, error: Exception) -> None:
        told = translated(error)
        self._failing |= isinstance(error, EndpointError) and not isinstance(error, BadReplyError)
        if told.status >= 500 and told is not error:  # not one of our own refusals
            log.error("answer failed: %s", error, exc_info=error, extra={"request_id": answer.request_id})
        self.observer.failed(told)
        self._tell(answer, Failed(told, None if told is error else error))
        answer.cancelled = True
