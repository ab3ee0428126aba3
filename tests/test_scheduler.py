"""The scheduler on hand-written programs: one backend step for all, and what ends a program."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from decoder_worlds import babble_world

from rain_decoding import ContextLengthError, NumericalError
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.scheduler import Interrupted, Scheduler, Task
from rain_decoding.types import Decode, TopTokens


class Spy:
    """Counts backend calls."""

    def __init__(self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch):
        self.steps, self.cancelled = 0, 0
        step, cancel = backend.step, backend.cancel

        def counted_step() -> Any:
            self.steps += 1
            return step()

        def counted_cancel(handle: Any) -> None:
            self.cancelled += 1
            cancel(handle)

        monkeypatch.setattr(backend, "step", counted_step)
        monkeypatch.setattr(backend, "cancel", counted_cancel)


@pytest.fixture
def backend() -> ScriptedBackend:
    return babble_world()


@pytest.fixture
def spy(backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(backend, monkeypatch)


def ask(backend: ScriptedBackend, text: str, count: int = 2) -> TopTokens:
    return TopTokens(backend.codec.encode(text), count)


def asks_twice(backend: ScriptedBackend, name: str) -> Generator[Any, Any, str]:
    yield f"{name}: begins"
    (first,) = yield [ask(backend, name)]
    yield f"{name}: has {len(first)}"
    yield f"{name}: goes on"
    second, third = yield [ask(backend, name + "!"), ask(backend, name + "?", 3)]
    assert (len(second), len(third)) == (2, 3)
    return f"{name}: done"


def run(scheduler: Scheduler) -> None:
    while scheduler.tasks:
        scheduler.step()


def test_one_step_serves_all_tasks(backend: ScriptedBackend, spy: Spy) -> None:
    scheduler = Scheduler(backend)
    tasks = [Task(asks_twice(backend, f"task {number}"), backend.new_owner()) for number in range(5)]
    for task in tasks:
        scheduler.start(task)
    assert spy.steps == 0
    assert [list(task.events) for task in tasks] == [[f"task {number}: begins"] for number in range(5)]
    run(scheduler)
    assert spy.steps == 2 and backend.counters.forward_passes == 2
    for number, task in enumerate(tasks):
        assert task.done and task.result == f"task {number}: done" and task.error is None
        assert list(task.events) == [f"task {number}: {what}" for what in ("begins", "has 2", "goes on")]
        assert task.passes == 2
    assert sum(task.forwarded for task in tasks) == backend.counters.tokens_forwarded
    assert tasks[0].forwarded == 3 * len("task 0") + 2


def test_a_task_may_join_while_others_run(backend: ScriptedBackend, spy: Spy) -> None:
    scheduler = Scheduler(backend)
    early, late = (Task(asks_twice(backend, name), backend.new_owner()) for name in ("early", "late"))
    scheduler.start(early)
    scheduler.step()
    scheduler.start(late)
    run(scheduler)
    assert spy.steps == 3
    assert (early.result, late.result) == ("early: done", "late: done")


def test_cancel_takes_back_what_is_pending(backend: ScriptedBackend, spy: Spy) -> None:
    closed = []

    def program() -> Generator[Any, Any, None]:
        try:
            yield [ask(backend, "a"), ask(backend, "b"), Decode(backend.codec.encode("c"), 50, endings=".")]
        finally:
            closed.append(True)

    scheduler = Scheduler(backend)
    task, other = Task(program(), 1), Task(asks_twice(backend, "other"), 2)
    scheduler.start(task)
    scheduler.start(other)
    scheduler.step()
    scheduler.cancel(task)
    assert closed and task.done and task.result is None
    assert spy.cancelled == 1, "two of three were answered"
    assert task.forwarded == 3
    run(scheduler)
    assert other.result == "other: done"
    scheduler.cancel(task)
    assert not backend._jobs


def test_an_error_ends_one_task_only(backend: ScriptedBackend) -> None:
    def poisoned() -> Generator[Any, Any, None]:
        yield "an event"
        yield [ask(backend, "poison"), Decode(backend.codec.encode("fine"), 50)]

    def broken() -> Generator[Any, Any, None]:
        yield [ask(backend, "a")]
        raise ZeroDivisionError

    def too_long() -> Generator[Any, Any, None]:
        yield [ask(backend, "short"), ask(backend, "x" * 5000)]

    scheduler = Scheduler(backend)
    programs = (poisoned(), asks_twice(backend, "good"), broken(), too_long())
    tasks = [Task(program, owner) for owner, program in enumerate(programs)]
    for task in tasks:
        scheduler.start(task)
    run(scheduler)
    assert [type(task.error) for task in tasks] == [
        NumericalError,
        type(None),
        ZeroDivisionError,
        ContextLengthError,
    ]
    assert tasks[1].result == "good: done"
    assert list(tasks[0].events) == ["an event"]
    assert not backend._jobs, "the requests beside the failed ones are cancelled, too"


def test_an_interruption_lets_a_program_finish(backend: ScriptedBackend) -> None:
    def program() -> Generator[Any, Any, str]:
        try:
            yield [Decode(backend.codec.encode("a"), 50)]
        except Interrupted as interrupted:
            (tokens,) = yield [ask(backend, "last")]
            return f"{interrupted.reason} {len(tokens)}"
        return "never"

    reasons = iter([None, None, "budget"])
    task = Task(program(), 1, lambda: next(reasons))  # asked once more, the iterator would raise
    scheduler = Scheduler(backend)
    scheduler.start(task)
    run(scheduler)
    assert task.result == "budget 2"
    assert task.passes == 3 and not backend._jobs
    # The decoding that was given up: 1 token, then 2; then the 4 characters of "last".
    assert task.forwarded == 1 + 2 + 4


def test_a_program_that_ignores_an_interruption_ends_with_it(backend: ScriptedBackend) -> None:
    task = Task(asks_twice(backend, "a"), 1, lambda: "cancelled")
    scheduler = Scheduler(backend)
    scheduler.start(task)
    run(scheduler)
    assert isinstance(task.error, Interrupted) and task.error.reason == "cancelled"


def test_a_program_without_requests(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Generator[Any, Any, int]:
        yield "event"
        return 7

    scheduler, task = Scheduler(backend), Task(program(), 1)
    scheduler.start(task)
    assert task.done and task.result == 7 and list(task.events) == ["event"]
    scheduler.step()
    assert spy.steps == 0
