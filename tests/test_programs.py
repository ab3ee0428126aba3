"""Programs without a scheduler: whoever drives one answers what it yields."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from rain_decoding.programs import Await, Launch, Program, Request, ask, gather, served


@dataclass(frozen=True)
class Double(Request[int]):
    number: int


@dataclass
class Finished:
    """A branch that is done after it was awaited `waits` times."""

    result: Any
    waits: int = 0

    @property
    def done(self) -> bool:
        return self.waits <= 0


def doubled(number: int) -> Program[int]:
    return (yield from ask(Double(number)))


def answered(program: Generator[Any, Any, Any], *replies: Any) -> tuple[list[Any], Any]:
    """What a program yields when it gets these replies, and what it returns."""
    asked = [next(program)]
    for reply in replies[:-1]:
        asked.append(program.send(reply))
    with pytest.raises(StopIteration) as stop:
        program.send(replies[-1])
    return asked, stop.value.value


def test_ask_returns_the_reply() -> None:
    assert answered(doubled(3), 6) == ([Double(3)], 6)


def test_gather_launches_all_and_waits_for_those_that_are_not_done() -> None:
    launches = [Launch(doubled(number)) for number in range(3)]
    branches = [Finished("a"), Finished("b", waits=2), Finished("c", waits=1)]
    running = gather(launches)
    asked = [next(running)] + [running.send(branch) for branch in branches[:-1]]
    assert asked == launches
    assert running.send(branches[-1]) == Await(branches[1:])
    branches[2].waits -= 1
    assert running.send(None) == Await(branches[1:2])
    branches[1].waits = 0
    with pytest.raises(StopIteration) as stop:
        running.send(None)
    assert stop.value.value == ["a", "b", "c"]


def test_gather_of_nothing_asks_for_nothing() -> None:
    with pytest.raises(StopIteration) as stop:
        next(gather([]))
    assert stop.value.value == []


def test_served_answers_by_another_program() -> None:
    def serve(request: Double) -> Program[int]:
        return 1 + (yield from ask(Double(10 * request.number)))

    def twice() -> Generator[Double, Any, int]:
        first = yield Double(1)
        return first + (yield Double(2))

    assert answered(served(twice(), serve), 20, 40) == ([Double(10), Double(20)], 21 + 41)
