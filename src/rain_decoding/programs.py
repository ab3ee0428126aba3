"""Programs: generators that yield requests and receive the replies to them.

The search, a judgement and a whole answer are such programs. Whoever runs one decides what its requests mean: the
scheduler has a backend answer them, a test looks the replies up. `ask` and `gather` give each reply its type.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Asked = TypeVar("Asked")
Passed = TypeVar("Passed")


class Request(Generic[T_co]):
    """What a program yields to receive a reply of type `T_co`."""

    __slots__ = ()


Program = Generator[Request[object], object, T]
"""A program that returns a `T`. What tells more than its result yields events, too, which have no reply."""


class Branch(Protocol[T_co]):
    """A launched program: whether it is `done`, and then what it returned as `result`."""

    @property
    def done(self) -> bool: ...

    @property
    def result(self) -> T_co: ...


@dataclass(frozen=True, slots=True)
class Together(Request[list[T]]):
    """One or more requests that a backend may work on at the same time. Reply: the list of theirs."""

    requests: Sequence[Request[T]]


@dataclass(frozen=True, slots=True)
class Launch(Request[Branch[T]]):
    """Start a program; it runs beside this one and ends with it. Reply, at once: its `Branch`.

    With `backend` (see `scheduler.Steppable`) it runs there, for this `owner` of that backend.
    """

    program: Program[T]
    backend: Any = None
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Await(Request[None]):
    """Wait until at least one of the branches is done. Reply: None."""

    branches: Sequence[Branch[object]]


@dataclass(frozen=True, slots=True)
class Drop(Request[None]):
    """Stop a branch, if it is not done. Reply, at once: None."""

    branch: Branch[object]


def ask(request: Request[T]) -> Program[T]:
    """The reply to a request."""
    return cast(T, (yield request))


def gather(launches: Iterable[Launch[T]]) -> Program[list[T]]:
    """What the launched programs return, in their order, once all of them are done."""
    branches = []
    for launch in launches:
        branches.append((yield from ask(launch)))
    while running := [branch for branch in branches if not branch.done]:
        yield from ask(Await(running))
    return [branch.result for branch in branches]


def served(
    program: Generator[Asked, object, T], serve: Callable[[Asked], Generator[Passed, object, object]]
) -> Generator[Passed, object, T]:
    """Run a program: whatever it yields, `serve` is a program that finds the reply."""
    reply: object = None
    while True:
        try:
            asked = program.send(reply)
        except StopIteration as stop:
            return cast(T, stop.value)
        reply = yield from serve(asked)
