"""Programs that run on another backend than the one that launches them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator
from typing import Any

import pytest
from decoder_worlds import babble_world

from rain_decoding import NumericalError
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.programs import Await, Branch, Drop, Launch
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.types import Decode, TopTokens


def ask(backend: ScriptedBackend, text: str) -> TopTokens:
    return TopTokens(backend.codec.encode(text), 2)


def visit(backend: ScriptedBackend, program: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run a program on a backend and wait for its result."""
    branch: Branch[Any] = yield Launch(program, backend, backend.new_owner())
    yield Await([branch])
    return branch.result


def asks(backend: ScriptedBackend, *texts: str) -> Generator[Any, Any, list[int]]:
    """One request after the other."""
    counts = []
    for text in texts:
        reply = yield ask(backend, text)
        counts.append(len(reply))
    return counts


def run(scheduler: Scheduler, task: Task, limit: int = 50) -> Any:
    for _ in range(limit):
        if task.done:
            break
        scheduler.step()
    assert task.done, "it hangs"
    return task.result


def start(backend: ScriptedBackend, program: Generator[Any, Any, Any]) -> tuple[Scheduler, Task]:
    scheduler, task = Scheduler.of(backend), Task(program, backend.new_owner())
    scheduler.start(task)
    return scheduler, task


def test_the_result_comes_back_and_the_cost_is_the_callers() -> None:
    here, there = babble_world(), babble_world()

    def program() -> Generator[Any, Any, Any]:
        first = yield from asks(here, "abc")
        return first + (yield from visit(there, asks(there, "long text", "x")))

    scheduler, task = start(here, program())
    assert run(scheduler, task) == [2, 2, 2]
    assert (here.counters.tokens_forwarded, there.counters.tokens_forwarded) == (3, 10)
    assert (task.forwarded, task.forwarded_elsewhere, task.passes) == (13, 10, 3)


def test_a_result_that_is_there_at_once_takes_no_step() -> None:
    here, there = babble_world(), babble_world()

    def remembered() -> Generator[Any, Any, str]:
        return "known"
        yield

    def program() -> Generator[Any, Any, list[str]]:
        found = []
        for _ in range(2000):
            found.append((yield from visit(there, remembered())))
        return found

    _, task = start(here, program())
    assert task.done and task.result == ["known"] * 2000


def test_work_here_and_there_goes_on_in_the_same_steps() -> None:
    here, there = babble_world(), babble_world()

    def program() -> Generator[Any, Any, Any]:
        away: Branch[Any] = yield Launch(asks(there, "a", "b", "c"), there, 1)
        own = yield from asks(here, "d", "e", "f")
        yield Await([away])
        return own + away.result

    scheduler, task = start(here, program())
    for _ in range(3):
        assert not task.done
        scheduler.step()
    assert task.done, "three steps are enough for three requests on either side"


def test_a_guest_of_a_guest_may_run_where_all_began() -> None:
    here, there = babble_world(), babble_world()

    def outer() -> Generator[Any, Any, Any]:
        return (yield from visit(there, inner()))

    def inner() -> Generator[Any, Any, Any]:
        mine = yield from asks(there, "a")
        return mine + (yield from visit(here, asks(here, "bc", "de")))

    scheduler, task = start(here, outer())
    assert run(scheduler, task) == [2, 2, 2]
    assert (task.forwarded, task.forwarded_elsewhere) == (5, 5), "seen from here all of it is the guest's"


def test_two_that_share_a_judge_get_their_own_replies() -> None:
    judge = babble_world()
    callers = [babble_world() for _ in range(2)]
    running = [start(caller, visit(judge, asks(judge, *"abc"))) for caller in callers]
    own = start(judge, asks(judge, "d", "e"))
    # Only one of them is stepped: it advances what the others wait for, too.
    assert run(*running[0]) == [2, 2, 2]
    assert running[1][1].done and running[1][1].result == [2, 2, 2]
    assert own[1].done and own[1].result == [2, 2]
    assert judge.pending == 0


def test_an_error_there_ends_the_program_here() -> None:
    here, there = babble_world(), babble_world()

    def program() -> Generator[Any, Any, Any]:
        beside: Branch[Any] = yield Launch(asks(there, *"abcdef"), there, 1)
        yield Launch(asks(here, *"abcdef"))
        yield from visit(there, asks(there, "fine", "poison"))
        yield Await([beside])

    scheduler, task = start(here, program())
    run(scheduler, task)
    assert isinstance(task.error, NumericalError)
    assert here.pending == 0 and there.pending == 0, "what ran beside it is cancelled on both sides"
    assert not scheduler._guests


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_what_ends_here_ends_there(how: str) -> None:
    here, there = babble_world(), babble_world()
    closed = []

    def long() -> Generator[Any, Any, None]:
        try:
            yield Decode(there.codec.encode("a"), 40)
        finally:
            closed.append(True)

    def program() -> Generator[Any, Any, str]:
        away: Branch[Any] = yield Launch(long(), there, 1)
        yield from asks(here, "x", "y")
        if how == "drop":
            yield Drop(away)
            return "dropped"
        yield Await([away])
        return "never"

    scheduler, task = start(here, program())
    scheduler.step()
    assert not closed and there.pending > 0
    if how == "cancel":
        scheduler.cancel(task)
    else:
        scheduler.step()
    assert closed and task.done and there.pending == 0 and not scheduler._guests
    assert task.forwarded_elsewhere == 1, "what was forwarded until then is not forgotten"


def test_an_interruption_reaches_a_program_that_waits_for_another_backend() -> None:
    here, there = babble_world(), babble_world()
    stop = []
    scheduler = Scheduler.of(here)
    task = Task(visit(there, asks(there, *"abcdef")), 1, lambda: "budget" if stop else None)
    scheduler.start(task)
    scheduler.step()
    stop.append(True)
    scheduler.step()
    assert task.done and there.pending == 0


def test_backends_are_let_go_of() -> None:
    here, there = babble_world(), babble_world()
    scheduler, task = start(here, visit(there, asks(there, "a")))
    run(scheduler, task)
    names = [weakref.ref(here), weakref.ref(there)]
    del here, there, scheduler, task
    gc.collect()
    assert [name() for name in names] == [None, None]
