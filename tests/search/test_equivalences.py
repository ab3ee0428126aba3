"""What must be the same, or add up, whatever the world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.worlds import RandomWorld, random_world
from search.cases import PRESET_NAMES
from search.driver import Run, answer, backend_for, nodes_below, preset_config, run_package

from rain_decoding.config import SearchConfig
from rain_decoding.search.backup import back_up
from rain_decoding.search.outer_loop import Committed, commit, search
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Judge, Sample, Stop, Tokens, TokenSet

SMALL: dict[str, Any] = {"max_simulations": 20, "candidates": 5}


# --- Lazy and eager expansion ---------------------------------------------------------------------


def pruned(node: Node) -> Iterator[tuple[Any, ...]]:
    """Every evaluated or pruned node with its statistics, in the order of the tree."""
    if node.evaluations or node.pruned:
        numbers = (node.visits, node.evaluations, node.value, node.prior)
        seen = None if node.embedding is None else tuple(node.embedding)
        yield (node.tokens, *numbers, seen, node.pruned)
    for child in node.children:
        yield from pruned(child)


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_lazy_and_eager_expansion_give_the_same_tree(preset: str) -> None:
    lazy_samples = eager_samples = 0
    for number in range(15):
        world = random_world(number)
        lazy = run_package(world, preset_config(preset, **SMALL))
        eager = run_package(world, preset_config(preset, **SMALL, eager_expansion=True))
        assert lazy.tokens == eager.tokens
        assert lazy.finish == eager.finish
        assert lazy.simulations == eager.simulations
        assert list(pruned(lazy.first_root)) == list(pruned(eager.first_root))
        asked = [sum(isinstance(request, Sample) for request in run.requests) for run in (lazy, eager)]
        assert asked[0] <= asked[1]
        lazy_samples += asked[0]
        eager_samples += asked[1]
    assert lazy_samples < eager_samples


# --- Plain PUCT -----------------------------------------------------------------------------------


class PlainPuct:
    """Tree search of a few lines: visit counts, sums of scores, and the children the package proposed."""

    def __init__(self, proposals: dict[Tokens, list[tuple[Tokens, float]]], root: Tokens, c: float) -> None:
        self.proposals, self.root, self.c = proposals, root, c
        self.count: dict[Tokens, int] = {}
        self.total: dict[Tokens, float] = {}

    def worth(self, parent: Tokens, child: Tokens, prior: float) -> float:
        n = self.count.get(child, 0)
        q = (self.total[child] / n + 1) / 2.00001 if n else 0.0
        return q + self.c * prior * math.sqrt(self.count[parent]) / (1 + n)

    def select(self) -> list[Tokens]:
        path = [self.root]
        while path[-1] in self.count and path[-1] in self.proposals:
            children = self.proposals[path[-1]]
            path.append(max(children, key=lambda child: self.worth(path[-1], *child))[0])
        return path

    def credit(self, path: list[Tokens], score: float) -> None:
        for text in path:
            self.count[text] = self.count.get(text, 0) + 1
            self.total[text] = self.total.get(text, 0.0) + score


@pytest.mark.parametrize("number", range(12))
def test_without_similarity_and_widening_it_is_plain_puct(number: int) -> None:
    world = random_world(
        number, logits=("normal", "peaked")[number % 2], judge=("random", "soft")[number // 2 % 2]
    )
    # No mixing, so that no prior changes at a commit.
    config = preset_config("paper-hh", similarity=False, widening=False, root_mix=0.0, max_simulations=30)
    run = run_package(world, config)
    expanded = [node for node in nodes_below(run.first_root) if node.expanded]
    proposals = {node.tokens: [(child.tokens, child.prior) for child in node.children] for node in expanded}
    judged = [request.tokens for request in run.requests if isinstance(request, Judge)]
    puct = PlainPuct(proposals, world.prompt, config.exploration)
    roots = [world.prompt, *(committed.node.tokens for committed in run.commits)]
    for root, simulations in zip(roots, run.simulations, strict=False):
        puct.root = root
        for _ in range(simulations):
            path = puct.select()
            seen = judged.pop(0)
            assert seen[: len(path[-1])] == path[-1], "another leaf was selected"
            score = world.judge(seen)
            assert score is not None
            puct.credit(path, score)
    assert not judged
    for node in nodes_below(run.first_root):
        n = puct.count.get(node.tokens, 0)
        assert (node.visits, node.evaluations) == (n, n)
        assert node.value == pytest.approx(puct.total.get(node.tokens, 0.0) / max(n, 1), abs=1e-9)


# --- One candidate --------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_one_candidate_without_widening_is_greedy_decoding(preset: str) -> None:
    compared = 0
    for number in range(25):
        world = random_world(number, judge="random")
        run = run_package(world, preset_config(preset, candidates=1, widening=False, max_simulations=3))
        text = tuple(token for tokens in run.tokens for token in tokens)
        greedy: Tokens = ()
        while len(greedy) < len(text) and not (greedy and greedy[-1] in world.eos):
            greedy += (int(np.argmax(world.logits(world.prompt + greedy))),)
        assert text == greedy
        assert len(text) >= world.max_tokens or run.finish == "stop"
        compared += len(text)
    assert compared > 100


# --- Re-rooting -----------------------------------------------------------------------------------


def partial_search(world: RandomWorld, config: SearchConfig, judgements: int) -> Tree:
    """The tree after some judgements, in the middle of a search."""
    stop = Stop(world.markers, start=len(world.prompt))
    tree = Tree(world.prompt, config, seed=world.seed, max_tokens=world.max_tokens, stop=stop)
    backend = backend_for(world)
    steps = search(tree)
    request: Any = next(steps)
    while tree.simulations < judgements:
        request = steps.send(None if isinstance(request, Committed) else answer(request, world, backend))
    return tree


def statistics(node: Node) -> tuple[Any, ...]:
    seen = None if node.embedding is None else tuple(node.embedding)
    return node.id, node.tokens, node.visits, node.evaluations, node.value, seen, node.expanded, node.draws


@pytest.mark.parametrize("number", range(10))
def test_the_new_root_keeps_its_subtree(number: int) -> None:
    world = random_world(number, judge="mostly bad", max_tokens=17)
    tree = partial_search(world, preset_config("paper-hh", value_threshold=1.0), 45)
    child = max(tree.root.children, key=lambda node: node.visits)
    before = [statistics(node) for node in nodes_below(child)]
    priors = [node.prior for node in child.children]
    deeper = [node.prior for node in nodes_below(child) if node is not child and node.parent is not child]
    commit(tree, child)
    assert tree.root is child
    assert child.parent is None
    assert [statistics(node) for node in nodes_below(child)] == before
    mixed = [0.75 * prior + 0.25 / len(priors) for prior in priors]
    assert [node.prior for node in child.children] == pytest.approx([prior / sum(mixed) for prior in mixed])
    assert [
        node.prior for node in nodes_below(child) if node is not child and node.parent is not child
    ] == deeper


# --- Sums and ranges ------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_visits_add_up_without_similarity(preset: str) -> None:
    inner = 0
    for number in range(12):
        world = random_world(number)
        run = run_package(world, preset_config(preset, **SMALL, similarity=False))
        roots = {run.first_root.id, *(committed.node.id for committed in run.commits)}
        for node in nodes_below(run.first_root):
            assert node.visits == node.evaluations
            if node.evaluations and node.expanded and node.id not in roots:
                assert node.visits == 1 + sum(child.visits for child in node.children)
                inner += 1
        # A root counts no longer once its child is committed, so its sum is the one of that moment.
        for step, (visits, below) in enumerate(run.visits):
            first_was_unscored = step == 0 and silent(world, run)
            assert visits == below + (0 if first_was_unscored else 1)
    assert inner > 50


def silent(world: RandomWorld, run: Run) -> bool:
    """Whether the first root's own text got no score."""
    first = next(request for request in run.requests if isinstance(request, Judge))
    return world.judge(first.tokens) is None


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 10**6),
    preset=st.sampled_from(PRESET_NAMES),
    simulations=st.integers(1, 25),
    candidates=st.integers(1, 6),
    exploration=st.sampled_from((0.0, 0.5, 2.0, 10.0)),
    discount=st.floats(0.0, 1.0),
    threshold=st.floats(0.0, 1.0),
)
def test_statistics_stay_in_their_ranges(
    number: int,
    preset: str,
    simulations: int,
    candidates: int,
    exploration: float,
    discount: float,
    threshold: float,
) -> None:
    changes = {"similarity_discount": discount, "similarity_threshold": threshold}
    run = run_package(
        random_world(number, max_tokens=7),
        preset_config(
            preset, max_simulations=simulations, candidates=candidates, exploration=exploration, **changes
        ),
    )
    for node in nodes_below(run.first_root):
        assert -1 - 1e-12 <= node.value <= 1 + 1e-12
        assert node.visits >= node.evaluations >= 0
        assert 0 < node.prior <= 1
        assert (node.embedding is None) == (node.evaluations == 0 or node is run.first_root)
        assert len({child.token_set.tokens for child in node.children}) == len(node.children)
        if node.expanded and len(node.children) <= candidates and node.candidates:
            listed = [candidate.token_set for candidate in node.candidates]
            if listed == [child.token_set for child in node.children]:
                assert sum(child.prior for child in node.children) == pytest.approx(1.0)


scores = st.sampled_from((-1.0, 0.0, 1.0)) | st.floats(-1.0, 1.0)
vectors = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), scores, vectors), min_size=1, max_size=30))
def test_values_are_means_of_scores(steps: list[tuple[int, float, np.ndarray]]) -> None:
    config = SearchConfig(similarity_threshold=0.2)
    tree = Tree((9,), config, seed=0, max_tokens=9, stop=Stop(start=1))
    children = [tree.add_child(tree.root, TokenSet((token,)), 1 / 3) for token in range(3)]
    for which, score, vector in steps:
        back_up([tree.root, children[which]], score, vector[None], config)
    given_scores = [score for _, score, _ in steps]
    assert tree.root.value == pytest.approx(np.mean(given_scores), abs=1e-9)
    assert tree.root.visits == len(steps)
    for index, child in enumerate(children):
        own = [vector for which, _, vector in steps if which == index]
        assert child.evaluations == len(own)
        assert child.visits >= child.evaluations
        assert min(0.0, *given_scores) - 1e-9 <= child.value <= max(0.0, *given_scores) + 1e-9
        if own:
            assert child.embedding == pytest.approx(np.mean(own, axis=0), abs=1e-9)
