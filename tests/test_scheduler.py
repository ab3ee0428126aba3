"""The scheduler on hand-written programs: one backend step for all, and what ends a program."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from decoder_worlds import babble_world

from rain_decoding import ContextLengthError, NumericalError
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.programs import Await, Drop, Launch, Together
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
    first = yield ask(backend, name)
    yield f"{name}: has {len(first)}"
    yield f"{name}: goes on"
    second, third = yield Together([ask(backend, name + "!"), ask(backend, name + "?", 3)])
    assert (len(second), len(third)) == (2, 3)
    return f"{name}: done"


def run(scheduler: Scheduler) -> None:
    while scheduler.tasks:
        scheduler.step()


def test_one_step_serves_all_tasks(backend: ScriptedBackend, spy: Spy) -> None:
    scheduler = Scheduler.of(backend)
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
    scheduler = Scheduler.of(backend)
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
            yield Together(
                [ask(backend, "a"), ask(backend, "b"), Decode(backend.codec.encode("c"), 50, endings=".")]
            )
        finally:
            closed.append(True)

    scheduler = Scheduler.of(backend)
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
    assert backend.pending == 0


def test_an_error_ends_one_task_only(backend: ScriptedBackend) -> None:
    def poisoned() -> Generator[Any, Any, None]:
        yield "an event"
        yield Together([ask(backend, "poison"), Decode(backend.codec.encode("fine"), 50)])

    def broken() -> Generator[Any, Any, None]:
        yield ask(backend, "a")
        raise ZeroDivisionError

    def too_long() -> Generator[Any, Any, None]:
        yield Together([ask(backend, "short"), ask(backend, "x" * 5000)])

    scheduler = Scheduler.of(backend)
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
    assert backend.pending == 0, "the requests beside the failed ones are cancelled, too"


def test_an_interruption_lets_a_program_finish(backend: ScriptedBackend) -> None:
    def program() -> Generator[Any, Any, str]:
        try:
            yield Decode(backend.codec.encode("a"), 50)
        except Interrupted as interrupted:
            tokens = yield ask(backend, "last")
            return f"{interrupted.reason} {len(tokens)}"
        return "never"

    reasons = iter([None, None, "budget"])
    task = Task(program(), 1, lambda: next(reasons))  # asked once more, the iterator would raise
    scheduler = Scheduler.of(backend)
    scheduler.start(task)
    run(scheduler)
    assert task.result == "budget 2"
    assert task.passes == 3 and backend.pending == 0
    # The decoding that was given up: 1 token, then 2; then the 4 characters of "last".
    assert task.forwarded == 1 + 2 + 4


def test_a_program_that_ignores_an_interruption_ends_with_it(backend: ScriptedBackend) -> None:
    task = Task(asks_twice(backend, "a"), 1, lambda: "cancelled")
    scheduler = Scheduler.of(backend)
    scheduler.start(task)
    run(scheduler)
    assert isinstance(task.error, Interrupted) and task.error.reason == "cancelled"


def test_a_program_without_requests(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Generator[Any, Any, int]:
        yield "event"
        return 7

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    assert task.done and task.result == 7 and list(task.events) == ["event"]
    scheduler.step()
    assert spy.steps == 0


Program = Generator[Any, Any, Any]


def asks(backend: ScriptedBackend, *texts: str, result: Any = None) -> Program:
    """One request after the other."""
    for text in texts:
        yield ask(backend, text)
    return result


def test_branches_run_beside_the_program_and_cost_the_task(
    backend: ScriptedBackend, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[int] = []
    submit = backend.submit

    def noted(request: Any, owner: int) -> Any:
        owners.append(owner)
        return submit(request, owner)

    monkeypatch.setattr(backend, "submit", noted)

    def program() -> Program:
        long = yield Launch(asks(backend, "one", "two", "three", result="long"))
        short = yield Launch(asks(backend, "four", result="short"))
        assert not long.done and not short.done
        own = yield ask(backend, "own", 3)
        assert short.done and not long.done and len(own) == 3
        yield "an event"
        while not long.done:
            yield Await([long])
        return short.result, long.result

    scheduler, task = Scheduler.of(backend), Task(program(), backend.new_owner())
    scheduler.start(task)
    assert spy.steps == 0 and scheduler.tasks == [task]
    scheduler.step()
    assert task.passes == 1, "three took part in it"
    assert task.forwarded == len("one") + len("four") + len("own")
    run(scheduler)
    assert task.result == ("short", "long")
    assert list(task.events) == ["an event"]
    assert set(owners) == {task.owner} and len(owners) == 5
    assert task.passes == spy.steps == backend.counters.forward_passes == 3
    assert task.forwarded == backend.counters.tokens_forwarded == len("onetwothreefourown")
    assert not task.children


@pytest.mark.parametrize(
    "failing", ["error in the branch", "error of its request", "refused request", "error at once"]
)
def test_an_error_in_a_branch_ends_the_whole_task(backend: ScriptedBackend, failing: str) -> None:
    ended: list[str] = []

    def wrong() -> Program:
        if failing == "error at once":
            raise ZeroDivisionError
        yield ask(backend, "a")
        if failing == "error in the branch":
            raise ZeroDivisionError
        yield ask(backend, "poison" if failing == "error of its request" else "x" * 5000)

    def nested() -> Program:
        try:
            yield Await([(yield Launch(wrong()))])
        finally:
            ended.append("nested")

    def program() -> Program:
        try:
            yield Launch(asks(backend, "b", "c", "d", "e"))
            yield Await([(yield Launch(nested()))])
        finally:
            ended.append("program")

    scheduler = Scheduler.of(backend)
    task, other = Task(program(), 1), Task(asks_twice(backend, "other"), 2)
    scheduler.start(task)
    scheduler.start(other)
    run(scheduler)
    expected = {
        "error in the branch": ZeroDivisionError,
        "error at once": ZeroDivisionError,
        "error of its request": NumericalError,
        "refused request": ContextLengthError,
    }
    assert type(task.error) is expected[failing]
    assert task.done and task.result is None and sorted(ended) == ["nested", "program"]
    assert other.result == "other: done" and other.error is None
    assert backend.pending == 0 and not task.children


def test_an_interruption_stops_the_branches(backend: ScriptedBackend, spy: Spy) -> None:
    closed: list[str] = []

    def branch(name: str) -> Program:
        try:
            yield Decode(backend.codec.encode(name), 50)
        finally:
            closed.append(name)

    def program() -> Program:
        branches = [(yield Launch(branch("a"))), (yield Launch(branch("b")))]
        try:
            yield Await(branches)
        except Interrupted as interrupted:
            assert all(launched.done and launched.result is None for launched in branches)
            last = yield ask(backend, "last")
            return f"{interrupted.reason} {len(last)}"

    reasons = iter([None, None, "budget"])
    task = Task(program(), 1, lambda: next(reasons))
    scheduler = Scheduler.of(backend)
    scheduler.start(task)
    run(scheduler)
    assert task.result == "budget 2"
    assert sorted(closed) == ["a", "b"] and spy.cancelled == 2 and backend.pending == 0
    # Two steps of either branch, then the four characters of "last".
    assert task.passes == 3 and task.forwarded == 2 * (1 + 2) + 4


def test_what_a_finished_program_leaves_running_is_cancelled(backend: ScriptedBackend, spy: Spy) -> None:
    closed: list[bool] = []

    def endless() -> Program:
        try:
            yield Launch(asks(backend, "c", "d", "e"))
            yield Decode(backend.codec.encode("a"), 50)
        finally:
            closed.append(True)

    def program() -> Program:
        yield Launch(endless())
        yield ask(backend, "b")
        return "done"

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    run(scheduler)
    assert task.result == "done" and closed and not task.children
    assert spy.steps == 1 and spy.cancelled == 2 and backend.pending == 0
    assert task.forwarded == backend.counters.tokens_forwarded == 3


def test_cancelling_a_task_cancels_its_branches(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Program:
        branches = []
        for name in "abc":
            branches.append((yield Launch(asks(backend, name, name + name))))
        yield Await(branches)
        yield Await(branches[1:])
        yield Decode(backend.codec.encode("d"), 50)

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    scheduler.step()
    scheduler.cancel(task)
    assert task.done and not task.children and backend.pending == 0 and spy.cancelled == 3
    assert task.forwarded == 3
    scheduler.step()
    assert spy.steps == 1


def test_awaiting_what_is_done_takes_no_step(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Program:
        done = yield Launch(asks(backend, "a", result=1))
        running = yield Launch(asks(backend, "b", "c", "d", result=2))
        yield Await([done, running])
        assert done.done and not running.done
        yield Await([running, done])
        yield Await([done])
        assert not running.done and spy.steps == 1
        yield Drop(done)
        return done.result

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    run(scheduler)
    assert task.result == 1 and spy.steps == 1


def test_awaiting_nothing_goes_on_at_once(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Program:
        yield Await([])
        return "done"

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    assert task.result == "done" and spy.steps == 0


def test_a_branch_that_asks_for_nothing_is_done_at_once(backend: ScriptedBackend, spy: Spy) -> None:
    def program() -> Program:
        first = yield Launch(asks(backend, result="nothing"))
        assert first.done
        yield Await([first])
        return first.result

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    assert task.done and task.result == "nothing" and spy.steps == 0 and not scheduler.tasks


def test_a_dropped_branch_is_stopped_and_its_cost_stays(backend: ScriptedBackend, spy: Spy) -> None:
    closed: list[bool] = []

    def branch() -> Program:
        try:
            yield Decode(backend.codec.encode("abc"), 50)
        finally:
            closed.append(True)

    def program() -> Program:
        launched = yield Launch(branch())
        yield ask(backend, "de")
        yield Drop(launched)
        assert launched.done and launched.result is None and closed
        yield Drop(launched)
        yield ask(backend, "f")
        return "done"

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    run(scheduler)
    assert task.result == "done" and spy.cancelled == 1
    assert task.forwarded == backend.counters.tokens_forwarded == len("abcdef")


def test_branches_of_branches(backend: ScriptedBackend, spy: Spy) -> None:
    def deep(levels: int) -> Program:
        below = (yield Launch(deep(levels - 1))) if levels else None
        yield ask(backend, "x" * (levels + 1))
        if below is None:
            return 0
        yield Await([below])
        return below.result + 1

    scheduler, task = Scheduler.of(backend), Task(deep(4), 7)
    scheduler.start(task)
    other = Task(asks_twice(backend, "other"), 8)
    scheduler.start(other)
    assert {pending.root for pending in scheduler._waiting.values()} == {task, other}
    run(scheduler)
    assert task.result == 4 and task.passes == 1 and spy.steps == 2
    assert task.forwarded == 5 + 4 + 3 + 2 + 1
    assert task.forwarded + other.forwarded == backend.counters.tokens_forwarded
    assert other.passes == 2


def test_branches_that_end_in_one_step_resume_the_program_one_by_one(backend: ScriptedBackend) -> None:
    resumed: list[int] = []

    def program() -> Program:
        branches = []
        for name in "pqr":
            branches.append((yield Launch(asks(backend, name, result=name))))
        waiting = list(branches)
        while waiting:
            yield Await(waiting)
            done = [launched for launched in waiting if launched.done]
            resumed.append(len(done))
            waiting = [launched for launched in waiting if not launched.done]
        return [launched.result for launched in branches]

    scheduler, task = Scheduler.of(backend), Task(program(), 1)
    scheduler.start(task)
    scheduler.step()
    assert task.result == ["p", "q", "r"] and resumed == [1, 1, 1] and task.passes == 1
