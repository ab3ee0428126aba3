"""How far an attack on one behaviour, or on all together, has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from rain_decoding.types import Tokens


@dataclass(frozen=True, slots=True)
class Found:
    """A suffix and how good it is. `goals` behaviours were looked at together; `loss` is smaller where it is better.

    `hit` says that it does all that the attack itself can see of success. `tokens` were forwarded when it was found.
    """

    controls: str
    loss: float
    hit: bool
    goals: int
    tokens: int

    def beats(self, other: Found | None) -> bool:
        """Whether this is the better of two."""
        return other is None or (self.goals, -self.loss) > (other.goals, -other.loss)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an attack stands: all that its next step depends on.

    `controls` is the suffix it goes on from, `ids` its tokens where the attack has any, `loss` its loss. `goals`
    behaviours are attacked together. `tokens` and `passes` were spent on all restarts, `spent` before this one;
    `queries` are the answers that a black-box attack asked for; `curve` has every improvement, the best suffix last.
    """

    controls: str
    ids: Tokens = ()
    loss: float | None = None
    goals: int = 1
    restart: int = 0
    step: int = 0
    hit: bool = False
    tokens: int = 0
    passes: int = 0
    spent: int = 0
    queries: int = 0
    curve: tuple[Found, ...] = field(default=())

    @property
    def best(self) -> Found | None:
        """The best suffix of all restarts."""
        return self.curve[-1] if self.curve else None

    def with_found(self, found: Found) -> Progress:
        """The curve goes on where this is better than all before."""
        return replace(self, curve=(*self.curve, found)) if found.beats(self.best) else self

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Progress:
        """What `as_json` wrote."""
        curve = tuple(Found(**found) for found in value["curve"])
        return cls(**{**value, "ids": tuple(value["ids"]), "curve": curve})


class Attack(Protocol):
    """A search for suffixes. Between steps it keeps nothing but what `Progress` holds: so it can go on anywhere."""

    def start(self, progress: Progress | None) -> Progress:
        """The beginning of the first restart, or of the one after `progress`."""
        ...

    def step(self, progress: Progress) -> Progress:
        """One round of candidates."""
        ...

    def ended(self, progress: Progress) -> bool:
        """Whether this restart has nothing more to do, whatever budget is left."""
        ...
