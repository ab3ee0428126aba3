"""What is proposed in place of a text that was judged bad: one kind a file, found by name in `KINDS`.

A kind is a pure function that makes up to so many proposals below a node. `SearchConfig.proposals` says which are
tried, in which order, and how many of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.config import PROPOSAL_GROUP, PROPOSALS
from rain_decoding.plugins import Registry
from rain_decoding.search.proposals.contrast import CONTRAST
from rain_decoding.search.proposals.critique import CRITIQUE
from rain_decoding.search.proposals.declined import DECLINED
from rain_decoding.search.proposals.guided import GUIDED
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.proposals.openings import OPENINGS
from rain_decoding.search.proposals.sampled import SAMPLED
from rain_decoding.search.proposals.steered import STEERED

KINDS: Registry[Kind] = Registry(
    PROPOSAL_GROUP, Kind, (OPENINGS, SAMPLED, GUIDED, CRITIQUE, CONTRAST, STEERED, DECLINED)
)
"""All kinds by name."""


def register(kind: Kind) -> None:
    """Make a kind known to `SearchConfig.proposals`, in this process. A package adds its own by an entry point.

    Raises `ConfigError` where the name is taken.
    """
    KINDS.add(kind)
    PROPOSALS.append(kind.name)


MANY = 10_000
"""More than `SearchConfig.max_children` can be."""


def plan(entries: Sequence[str]) -> list[tuple[Kind, int]]:
    """The kinds of `SearchConfig.proposals` in their order, and how many of each a node gets at most."""
    parted = [entry.partition(":") for entry in entries]
    return [(KINDS[name], int(count) if count else MANY) for name, _, count in parted]
