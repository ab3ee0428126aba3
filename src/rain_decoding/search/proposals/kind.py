"""What a kind of proposal is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rain_decoding.programs import Program
from rain_decoding.search.sentences import Proposal
from rain_decoding.search.tree import Node, Tree

Propose = Callable[[Tree, Node, int], Program[list[Proposal]]]
"""Up to so many more proposals below a node; none where there are no more to be had."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to come by something else than what was judged bad.

    `last` kinds are tried when nothing else is left, at the beginning of what is not released; no limit on judgements
    holds them up.
    """

    name: str
    propose: Propose
    last: bool = False
