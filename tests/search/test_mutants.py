"""Wrong rules must be noticed: each mutant of the search has to end somewhere with another result than the reference.

A mutant is a function of the package with one piece of its source replaced. Where the source no longer holds
the piece, adapt the mutant to the new wording.
"""

from __future__ import annotations

import inspect
import sys
from types import FunctionType

import pytest
from search.cases import CASES, case

from rain_decoding.search import (
    backup,
    expansion,
    outer_loop,
    selection,
    simulation,
    stopping,
    tree,
    widening,
)

MODULES = (backup, expansion, outer_loop, selection, simulation, stopping, tree, widening)

MUTANTS: list[tuple[FunctionType, str, str]] = [
    # Equation (1)
    (selection.terms, "parent.visits", "sum(c.visits for c in parent.children)"),
    (selection.terms, "child.visits, weight", "child.evaluations, weight"),
    (selection.exploration, "(1 + visits)", "max(1, visits)"),
    (selection.exploitation, "(value + 1) / 2.00001", "value"),
    (selection.exploitation, "if visits else 0.0", "if True else 0.0"),
    (selection.select_child, "in parent.children", "in reversed(parent.children)"),
    # Equation (2)
    (backup.back_up, "node.value += (score - node.value) / node.visits", "node.value = score"),
    (backup.back_up, "/ node.visits\n    root", "/ node.evaluations\n    root"),
    (backup.back_up, "root.visits += 1", "root.visits += 2"),
    (backup._update_embedding, "/ node.evaluations", "/ node.visits"),
    (backup._credit_similar_siblings, "similarity_discount * similarity", "similarity_discount"),
    (backup._credit_similar_siblings, "sibling.visits += weight", "pass"),
    (backup._credit_similar_siblings, "config.similarity_threshold", "1.1"),
    (backup._credit_similar_siblings, "in node.siblings", "in list(node.siblings)[:1]"),
    # Expansion
    (expansion.expand, "sorted(tokens, key=lambda candidate: candidate.token_set.tokens)", "tokens"),
    (expansion.expand, "config.candidate_temperature", "1.0"),
    (expansion.expand, "if node is tree.root", "if False"),
    (expansion.propose, "2 * count - 1 if", "2 * count if"),
    (expansion.propose, "if config.redraw else count - 1", "if False else count - 1"),
    (expansion.propose, "node.draws + index", "index"),
    (expansion.propose, "if candidate.token_set not in known", "if True"),
    (expansion.propose, "temperature=config.candidate_temperature", "temperature=1.0"),
    (expansion.propose, "top_k=config.top_k", "top_k=0"),
    (expansion.greedy_probability, "min(greedy, sum(others))", "0.0"),
    (expansion.greedy_probability, "min(greedy, sum(others))", "greedy"),
    (expansion.greedy_probability, "max(others) + min(others)", "0.0"),
    (expansion.greedy_probability, "max(others) + min(others)", "2 * max(others)"),
    (expansion.mix_root_priors, "prior / sum(mixed)", "prior"),
    (outer_loop.commit, "if child.expanded", "if False"),
    # Widening
    (widening.wants_child, "ddof=1", "ddof=0"),
    (widening.wants_child, ">= config.widening_value", "> config.widening_value"),
    (widening.wants_child, "and not child.pruned", ""),
    (widening.wants_child, ">= config.max_children", "> config.max_children"),
    (widening.wants_child, "config.token_set_length(node.depth)", "1"),
    (widening.widen, "(1 - share) * prior + share / (len(node.children) + 1)", "prior"),
    (widening.widen, "(len(node.children) + 1)", "len(node.children)"),
    (widening.widen, "if node is tree.root", "if True"),
    (widening._next_token, "stop=tree.stop", "tree.config.candidate_temperature, tree.stop"),
    (widening._next_token, "len(node.children) + 1", "len(node.children) + 2"),
    (widening._drawn_set, "proposed + node.candidates", "node.candidates + proposed"),
    (widening._drawn_set, "proposed + node.candidates", "proposed[1:] + node.candidates"),
    (widening._drawn_set, "len(node.children) + 1", "len(node.children)"),
    (widening._drawn_set, "propose(tree, node, 2)", "propose(tree, node, 3)"),
    # Stopping and commit
    (stopping.settled, "best.evaluations > config", "best.evaluations >= config"),
    (stopping.settled, "best.value > config", "best.value >= config"),
    (stopping.settled, "best.evaluations >", "best.visits >"),
    (stopping.simulation_allowance, "config.max_simulations - carried", "config.max_simulations"),
    (stopping.best_child, "(child.visits, child.value)", "(child.evaluations, child.value)"),
    (stopping.best_child, "(child.visits, child.value)", "child.visits"),
    (stopping.best_child, "(child.visits, child.value)", "(child.value, child.visits)"),
    # Simulation
    (simulation._roll_out, "tree.limit - len(leaf.tokens)", "tree.limit - len(leaf.tokens) + 1"),
    (simulation._roll_out, '"rollout"', '"candidate"'),
    (simulation.simulate, "for parent in path[:-1]", "for parent in path[1:]"),
    (simulation._prune, "all(child.pruned for child in node.children)", "node is leaf"),
    (simulation._descend, "and not tree.finished(node)", ""),
]

CRASHES = (ArithmeticError, AssertionError, IndexError, TypeError, ValueError)


def plant(monkeypatch: pytest.MonkeyPatch, function: FunctionType, old: str, new: str) -> None:
    """Replace `old` by `new` in the function's source, wherever the search uses the function."""
    source = inspect.getsource(function)
    assert old in source, f"{function.__name__} no longer holds {old!r}: adapt this mutant"
    home = sys.modules[function.__module__]
    space = dict(vars(home))
    exec(compile(source.replace(old, new), f"mutant of {function.__name__}", "exec"), space)
    # The mutant sees its module's own names, so that two mutants could be planted together.
    mutant = FunctionType(space[function.__name__].__code__, vars(home), function.__name__)
    mutant.__defaults__, mutant.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    for module in MODULES:
        if getattr(module, function.__name__, None) is function:
            monkeypatch.setattr(module, function.__name__, mutant)


@pytest.mark.parametrize(
    ("function", "old", "new"), MUTANTS, ids=[f"{f.__name__}: {o[:30]} -> {n[:30]}" for f, o, n in MUTANTS]
)
def test_mutant_is_noticed(
    monkeypatch: pytest.MonkeyPatch, function: FunctionType, old: str, new: str
) -> None:
    plant(monkeypatch, function, old, new)
    assert any(noticed(number) for number in range(CASES)), "no case tells the mutant from the search"


def noticed(number: int) -> bool:
    """Whether the case goes otherwise than in the reference, for another reason than rounding."""
    try:
        return bool(case(number).differences()) and not case(number).reference().events["decided by rounding"]
    except CRASHES:
        return False  # another case has to come to its end, with a wrong result


def test_visits_that_the_root_does_not_count_divide_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, backup.back_up, "root.visits += 1", "pass")
    with pytest.raises(ZeroDivisionError):
        case(0).run()
