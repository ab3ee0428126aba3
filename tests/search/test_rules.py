"""Each rule of the search on small cases, with the numbers worked out by hand in the comments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rain_decoding.config import SearchConfig
from rain_decoding.search.backup import back_up, cosine
from rain_decoding.search.expansion import expand, greedy_probability, mix_root_priors
from rain_decoding.search.outer_loop import Committed, search
from rain_decoding.search.selection import exploitation, exploration, select_child, terms
from rain_decoding.search.stopping import best_child, settled, simulation_allowance
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.widening import wants_child, widen
from rain_decoding.types import (
    Candidate,
    Decode,
    Decoded,
    Embed,
    Judge,
    Judgement,
    Sample,
    Stop,
    TokenSet,
    TopTokens,
)

ALIKE = np.array([1.0, 0.0])
APART = np.array([0.0, 1.0])


def make_tree(**changes: Any) -> Tree:
    """A tree over the prompt (9,) with room for 20 tokens."""
    return Tree((9,), SearchConfig(**changes), seed=5, max_tokens=20, stop=Stop(start=1))


def child_of(tree: Tree, parent: Node, *tokens: int, **statistics: Any) -> Node:
    """A new child with the given statistics."""
    child = tree.add_child(parent, TokenSet(tokens), statistics.pop("prior", 0.5))
    parent.expanded = parent.expandable = True
    for name, value in statistics.items():
        setattr(child, name, value)
    return child


def replies(requests: Any, *answers: Any) -> list[Any]:
    """Drive a computation with the given replies, all of which it must use; the requests it made."""
    made = [next(requests)]
    for answer in answers[:-1]:
        made.append(requests.send(answer))
    with pytest.raises(StopIteration):
        requests.send(answers[-1])
    return made


def candidates(*entries: tuple[tuple[int, ...], float]) -> list[Candidate]:
    return [Candidate(TokenSet(tokens), probability) for tokens, probability in entries]


# --- Equation (1) ---------------------------------------------------------------------------------


def test_value_is_mapped_to_zero_to_one() -> None:
    # (1 + 1) / 2.00001 = 0.999995..., (-1 + 1) / 2.00001 = 0
    assert exploitation(1.0, visits=2.0) == pytest.approx(0.9999950000249999, abs=1e-15)
    assert exploitation(-1.0, visits=2.0) == 0.0
    # Unvisited: 0, not the (0 + 1) / 2.00001 of an even value.
    assert exploitation(0.0, visits=0.0) == 0.0


def test_exploration_uses_the_parents_own_visits() -> None:
    tree = make_tree()
    tree.root.visits = 9.0
    child = child_of(tree, tree.root, 1, prior=0.4, visits=1.0)
    # 2 * 0.4 * sqrt(9) / (1 + 1) = 1.2; with the children's visits (1) it were 0.4.
    assert exploration(0.4, parent_visits=9.0, visits=1.0, weight=2.0) == pytest.approx(1.2)
    assert terms(tree.root, child, 2.0) == (exploitation(0.0, 1.0), pytest.approx(1.2))
    assert terms(tree.root, child, 0.0)[1] == 0.0


def test_selection_weighs_value_against_exploration() -> None:
    tree = make_tree()
    tree.root.visits = 4.0
    tried = child_of(tree, tree.root, 1, prior=0.6, visits=3.0, value=1.0)
    # 0.999995 + 2 * 0.6 * 2 / 4 = 1.599995 against 2 * 0.4 * 2 / 1 = 1.6: the untried one by a hair.
    untried = child_of(tree, tree.root, 2, prior=0.4)
    assert select_child(tree.root, 2.0) is untried
    # With c = 1.9: 0.999995 + 0.57 = 1.569995 against 1.52.
    assert select_child(tree.root, 1.9) is tried


def test_first_descent_takes_the_most_probable() -> None:
    tree = make_tree()
    tree.root.visits = 1.0
    child_of(tree, tree.root, 1, prior=0.3)
    likely = child_of(tree, tree.root, 2, prior=0.4)
    child_of(tree, tree.root, 3, prior=0.3)
    assert select_child(tree.root, 2.0) is likely


def test_ties_go_to_the_earlier_child_and_closed_ones_are_skipped() -> None:
    tree = make_tree()
    tree.root.visits = 4.0
    first = child_of(tree, tree.root, 7, prior=0.5)
    second = child_of(tree, tree.root, 1, prior=0.5)
    assert select_child(tree.root, 2.0) is first
    first.pruned = True
    assert select_child(tree.root, 2.0) is second
    second.pruned = True
    assert select_child(tree.root, 2.0) is None


# --- Equation (2) ---------------------------------------------------------------------------------


def test_backup_by_hand() -> None:
    tree = make_tree(similarity_discount=0.2, similarity_threshold=0.95)
    root = tree.root
    root.visits, root.evaluations, root.value = 4.0, 4, 0.5
    # The embedding of `node` becomes ((1, 0) + (0.8, 0.6)) / 2 = (0.9, 0.3).
    node = child_of(tree, root, 1, visits=1.5, evaluations=1, value=1.0, embedding=ALIKE)
    # cos((0.9, 0.3), (3, 1)) = 1, so w = 0.2.
    same = child_of(tree, root, 2, visits=2.0, evaluations=2, value=0.5, embedding=np.array([3.0, 1.0]))
    # cos((0.9, 0.3), (1, 0)) = 0.9 / sqrt(0.9) = 0.94868 < 0.95: nothing.
    almost = child_of(tree, root, 3, visits=1.0, evaluations=1, value=1.0, embedding=ALIKE)
    never = child_of(tree, root, 4)
    credited = back_up([root, node], -1.0, np.array([[0.8, 0.6]]), tree.config)
    assert node.embedding == pytest.approx(np.array([0.9, 0.3]))
    assert (node.visits, node.evaluations) == (2.5, 2)
    # 1 + (-1 - 1) / 2.5 = 0.2: divided by the visits, not by the 2 evaluations (which gave 0).
    assert node.value == pytest.approx(0.2)
    # (0.5 * 2 + 0.2 * -1) / 2.2 = 0.8 / 2.2
    assert same.value == pytest.approx(0.8 / 2.2)
    assert (same.visits, same.evaluations) == (pytest.approx(2.2), 2)
    assert (almost.visits, almost.value) == (1.0, 1.0)
    assert (never.visits, never.value, never.embedding) == (0.0, 0.0, None)
    assert credited == [same]
    # 0.5 + (-1 - 0.5) / 5 = 0.2
    assert (root.visits, root.evaluations, root.value) == (5.0, 5, pytest.approx(0.2))
    assert root.embedding is None


def test_similarity_is_met_at_the_threshold_itself() -> None:
    tree = make_tree(similarity_threshold=1.0)
    node = child_of(tree, tree.root, 1)
    other = child_of(tree, tree.root, 2, visits=1.0, evaluations=1, value=1.0, embedding=ALIKE)
    back_up([tree.root, node], -1.0, ALIKE[None], tree.config)
    # w = 0.2 * 1: (1 * 1 + 0.2 * -1) / 1.2 = 0.8 / 1.2
    assert other.value == pytest.approx(0.8 / 1.2)
    assert other.visits == pytest.approx(1.2)


def test_backup_goes_up_level_by_level() -> None:
    tree = make_tree()
    upper = child_of(tree, tree.root, 1)
    lower = child_of(tree, upper, 2, 3)
    beside = child_of(tree, upper, 4, 5, visits=1.0, evaluations=1, value=-1.0, embedding=ALIKE)
    back_up([tree.root, upper, lower], 1.0, np.stack([APART, ALIKE]), tree.config)
    assert upper.embedding == pytest.approx(APART)
    assert lower.embedding == pytest.approx(ALIKE)
    # (-1 * 1 + 0.2 * 1) / 1.2
    assert beside.value == pytest.approx(-0.8 / 1.2)
    assert [(n.visits, n.value) for n in (tree.root, upper, lower)] == [(1.0, 1.0)] * 3


def test_no_similarity_update_where_it_is_off() -> None:
    tree = make_tree(similarity=False)
    node = child_of(tree, tree.root, 1)
    other = child_of(tree, tree.root, 2, visits=1.0, evaluations=1, value=1.0, embedding=ALIKE)
    assert back_up([tree.root, node], -1.0, ALIKE[None], tree.config) == []
    assert (other.visits, other.value) == (1.0, 1.0)


def test_cosine() -> None:
    assert cosine(np.array([2.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(0.6)
    assert cosine(np.zeros(2), ALIKE) == 0.0


# --- Expansion ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greedy", "others", "wanted"),
    [
        (0.3, [], 0.3),
        (0.3, [0.2], 0.4),  # max(min(0.3, 0.2), 0.2 + 0.2)
        (0.3, [0.2, 0.1], 0.3),  # max(min(0.3, 0.3), 0.2 + 0.1)
        (0.9, [0.2, 0.1, 0.05], 0.35),  # max(min(0.9, 0.35), 0.2 + 0.05)
        (0.3, [0.2, 0.1, 0.05], 0.3),  # max(min(0.3, 0.35), 0.25)
        (0.1, [0.2, 0.1, 0.05], 0.25),  # max(min(0.1, 0.35), 0.25)
    ],
)
def test_greedy_probability(greedy: float, others: list[float], wanted: float) -> None:
    assert greedy_probability(greedy, others) == pytest.approx(wanted)


def test_one_token_children_stand_by_id_with_mixed_priors_at_the_root() -> None:
    tree = make_tree(candidates=2)
    made = replies(expand(tree, tree.root), candidates(((7,), 0.6), ((3,), 0.2)))
    assert made == [TopTokens((9,), 2, 1.0, tree.stop)]
    assert [child.tokens for child in tree.root.children] == [(9, 3), (9, 7)]
    # 0.75 * 0.25 + 0.125 = 0.3125 and 0.75 * 0.75 + 0.125 = 0.6875
    assert [child.prior for child in tree.root.children] == pytest.approx([0.3125, 0.6875])


def test_longer_children_stand_greedy_first_without_duplicates() -> None:
    tree = make_tree(candidates=4)
    node = child_of(tree, tree.root, 1)
    drawn = candidates(((5, 5), 0.3), ((6, 6), 0.1), ((5, 5), 0.3), ((2, 2), 0.2))
    [request] = replies(expand(tree, node), drawn)
    assert (request.length, request.greedy, len(request.seeds), request.top_k) == (2, True, 3, 15)
    assert [child.token_set.tokens for child in node.children] == [(5, 5), (6, 6), (2, 2)]
    # The greedy set keeps max(min(0.3, 0.3), 0.2 + 0.1) = 0.3; the sum is 0.6. No mixing below the root.
    assert [child.prior for child in node.children] == pytest.approx([0.5, 1 / 6, 1 / 3])
    assert node.draws == 3


def test_redraw_goes_on_up_to_2q_minus_1_draws() -> None:
    tree = make_tree(candidates=3, redraw=True, candidate_temperature=2.0)
    node = child_of(tree, tree.root, 1)
    greedy, other, third = ((5, 5), 0.3), ((6, 6), 0.1), ((7, 7), 0.1)
    made = replies(
        expand(tree, node),
        candidates(greedy, greedy, other),  # 2 draws, 1 found
        candidates(other),  # the third
        candidates(third),  # the fourth
    )
    assert [(len(request.seeds), request.greedy) for request in made] == [(2, True), (1, False), (1, False)]
    assert len({seed for request in made for seed in request.seeds}) == 4
    assert [child.token_set.tokens for child in node.children] == [(5, 5), (6, 6), (7, 7)]
    stubborn = child_of(tree, tree.root, 2)
    again = candidates(greedy, greedy), candidates(greedy)
    replies(expand(tree, stubborn), candidates(greedy, greedy, greedy), *again)
    # 2 + 2 + 1 = 5 = 2 * 3 - 1 draws, then the greedy set stands alone with prior 1.
    assert stubborn.draws == 5
    assert [child.prior for child in stubborn.children] == [1.0]


def test_root_priors_are_mixed_then_normalised() -> None:
    tree = make_tree()
    for token, prior in enumerate((0.5, 0.3, 0.4)):
        child_of(tree, tree.root, token, prior=prior)
    mix_root_priors(tree)
    # 0.75 p + 1/12 = 0.458333, 0.308333, 0.383333; their sum 1.15
    wanted = [0.4583333333 / 1.15, 0.3083333333 / 1.15, 0.3833333333 / 1.15]
    assert [child.prior for child in tree.root.children] == pytest.approx(wanted)


def test_set_lengths_by_depth() -> None:
    config = SearchConfig()
    assert [config.token_set_length(depth) for depth in range(6)] == [1, 2, 4, 10, 10, 10]


# --- Widening -------------------------------------------------------------------------------------


def bad_children(tree: Tree, parent: Node, *embeddings: np.ndarray, value: float = -1.0) -> list[Node]:
    return [
        child_of(tree, parent, token, visits=1.0, evaluations=1, value=value, embedding=embedding, prior=0.5)
        for token, embedding in enumerate(embeddings, start=1)
    ]


def test_widening_needs_every_child_evaluated_and_bad() -> None:
    tree = make_tree()
    first, second = bad_children(tree, tree.root, ALIKE, ALIKE)
    assert wants_child(tree, tree.root)
    second.value = 0.0
    assert not wants_child(tree, tree.root)
    second.value = -1e-9
    assert wants_child(tree, tree.root)
    first.evaluations = 0
    assert not wants_child(tree, tree.root)


def test_an_unjudged_closed_child_does_not_block_widening() -> None:
    tree = make_tree()
    bad_children(tree, tree.root, ALIKE, ALIKE)
    silent = child_of(tree, tree.root, 8)
    assert not wants_child(tree, tree.root)
    silent.pruned = True
    assert wants_child(tree, tree.root)


def test_one_child_has_no_variance() -> None:
    tree = make_tree()
    bad_children(tree, tree.root, ALIKE)
    assert not wants_child(tree, tree.root)
    child_of(tree, tree.root, 8, pruned=True)
    assert not wants_child(tree, tree.root)


def test_widening_stops_at_the_most_children() -> None:
    tree = make_tree()
    bad_children(tree, tree.root, *[ALIKE] * 19)
    assert wants_child(tree, tree.root)
    bad_children(tree, tree.root, ALIKE)
    assert not wants_child(tree, tree.root)


def test_variance_is_unbiased_and_compared_with_the_length() -> None:
    # Two children at +d and -d on one axis: the unbiased variance is 2 d^2, its norm as well.
    def wants(distance: float, depth: int) -> bool:
        tree = make_tree()
        parent = tree.root
        for _ in range(depth):
            parent = child_of(tree, parent, 1)
        step = np.array([distance, 0.0])
        bad_children(tree, parent, step, -step)
        return wants_child(tree, parent)

    for depth, length in enumerate((1, 2, 4, 10)):
        edge = math.sqrt(0.03 * length / 2)
        assert wants(0.999 * edge, depth)
        assert not wants(1.001 * edge, depth)


def test_variance_at_the_bound_itself_does_not_widen() -> None:
    tree = make_tree(widening_variance=0.5)
    # +-0.5: variance 2 * 0.25 = 0.5, exactly the bound, and the bound is not below itself.
    bad_children(tree, tree.root, np.array([0.5, 0.0]), np.array([-0.5, 0.0]))
    assert not wants_child(tree, tree.root)


def test_widening_by_the_next_token() -> None:
    tree = make_tree(candidate_temperature=2.0)
    bad_children(tree, tree.root, ALIKE, ALIKE)
    offered = candidates(((1,), 0.4), ((2,), 0.3), ((6,), 0.1))
    [request] = replies(widen(tree, tree.root), offered)
    assert (request.count, request.temperature) == (3, 1.0)
    newcomer = tree.root.children[-1]
    # 0.1 / 0.8 = 0.125; at the root 0.75 * 0.125 + 0.25 / 3. The others keep their priors.
    assert newcomer.tokens == (9, 6)
    assert newcomer.prior == pytest.approx(0.75 * 0.125 + 0.25 / 3)
    assert [child.prior for child in tree.root.children[:2]] == [0.5, 0.5]


def test_widening_ends_with_the_vocabulary() -> None:
    tree = make_tree()
    bad_children(tree, tree.root, ALIKE, ALIKE)
    replies(widen(tree, tree.root), candidates(((1,), 0.6), ((2,), 0.4)))
    assert len(tree.root.children) == 2


def test_widening_by_a_drawn_set_lists_the_greedy_one_again() -> None:
    tree = make_tree(candidates=2)
    node = child_of(tree, tree.root, 1)
    replies(expand(tree, node), candidates(((5, 5), 0.5), ((6, 6), 0.1)))
    # Expansion: greedy 5 5 with max(min(0.5, 0.1), 0.2) = 0.2, then 6 6 with 0.1.
    assert [child.prior for child in node.children] == pytest.approx([2 / 3, 1 / 3])
    [request] = replies(widen(tree, node), candidates(((5, 5), 0.5), ((7, 7), 0.3)))
    assert (len(request.seeds), request.greedy) == (1, True)
    # The list is now 5 5: 0.6 (= 2 * 0.3), 7 7: 0.3, 5 5: 0.2, 6 6: 0.1. First three: 0.3 / 1.1. No mixing.
    assert [candidate.probability for candidate in node.candidates] == pytest.approx([0.6, 0.3, 0.2, 0.1])
    assert node.children[-1].token_set.tokens == (7, 7)
    assert node.children[-1].prior == pytest.approx(0.3 / 1.1)
    # A set that is a child already is listed, but not added; the draw after it has the next index.
    replies(widen(tree, node), candidates(((5, 5), 0.5), ((6, 6), 0.1)))
    assert len(node.children) == 3
    assert [candidate.probability for candidate in node.candidates[:2]] == pytest.approx([0.2, 0.1])
    replies(widen(tree, node), candidates(((5, 5), 0.5), ((5, 5), 0.5)))
    assert [candidate.probability for candidate in node.candidates[:2]] == pytest.approx([0.5, 0.2])
    assert (len(node.children), node.draws) == (3, 4)


# --- Stopping and commit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evaluations", "value", "stops"),
    [(7, 0.81, True), (6, 0.81, False), (7, 0.8, False), (7, 0.8000001, True), (50, 0.5, False)],
)
def test_early_stop_needs_more_than_both_bounds(evaluations: int, value: float, stops: bool) -> None:
    tree = make_tree()
    child_of(tree, tree.root, 1, visits=float(evaluations), evaluations=evaluations, value=value)
    child_of(tree, tree.root, 2, visits=1.0, evaluations=1, value=1.0)
    assert settled(tree.root, tree.config) is stops


def test_early_stop_looks_at_the_most_visited_child_only() -> None:
    tree = make_tree()
    child_of(tree, tree.root, 1, visits=8.0, evaluations=8, value=0.9)
    assert settled(tree.root, tree.config)
    child_of(tree, tree.root, 2, visits=8.5, evaluations=3, value=-1.0)
    assert not settled(tree.root, tree.config)


def test_early_stop_counts_evaluations_not_visits() -> None:
    tree = make_tree()
    child_of(tree, tree.root, 1, visits=8.5, evaluations=6, value=1.0)
    assert not settled(tree.root, tree.config)


def test_nothing_is_settled_without_children() -> None:
    tree = make_tree()
    assert not settled(tree.root, tree.config)
    child_of(tree, tree.root, 1)
    assert best_child(tree.root) is None


def test_best_child_ties() -> None:
    tree = make_tree()
    first = child_of(tree, tree.root, 1, visits=3.0, evaluations=3, value=0.0)
    assert best_child(tree.root) is first
    better = child_of(tree, tree.root, 2, visits=3.0, evaluations=2, value=0.5)
    assert best_child(tree.root) is better
    child_of(tree, tree.root, 3, visits=3.0, evaluations=3, value=0.5)
    assert best_child(tree.root) is better
    most = child_of(tree, tree.root, 4, visits=3.2, evaluations=1, value=-1.0)
    assert best_child(tree.root) is most


@pytest.mark.parametrize(
    ("carried", "allowed"),
    # max(50, carried + 15) - carried
    [(0, 50), (1, 49), (34, 16), (35, 15), (36, 15), (49, 15), (80, 15)],
)
def test_simulations_allowed_under_a_root_that_carries_some(carried: int, allowed: int) -> None:
    tree = make_tree()
    tree.root.evaluations = carried
    assert simulation_allowance(tree.root, tree.config) == allowed


# --- Unscored text --------------------------------------------------------------------------------


def run_without_scores(tree: Tree) -> tuple[list[Any], str]:
    """Drive a search whose judge never answers; the commits and the reason it ended."""
    commits: list[Any] = []
    steps = search(tree)
    reply: Any = None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration as end:
            return commits, end.value
        match request:
            case Committed():
                commits.append(request.node.token_set.tokens)
                reply = None
            case TopTokens():
                reply = candidates(((4,), 0.6), ((3,), 0.3))
            case Sample():
                reply = candidates(((5, 5), 0.5), *[((6, 6), 0.5)] * len(request.seeds))
            case Decode():
                reply = Decoded((), "ending")
            case Judge():
                reply = Judgement(None, "", problem="labels too improbable")
            case Embed():
                raise AssertionError("nothing to embed where nothing is scored")


def test_search_without_any_score_ends_as_unjudged() -> None:
    tree = make_tree(candidates=2)
    assert run_without_scores(tree) == ([], "unjudged")
    # The root and its two children, each once.
    assert tree.simulations == 3
    assert (tree.root.visits, tree.root.evaluations, tree.root.pruned) == (0.0, 0, False)
    assert [(child.visits, child.pruned) for child in tree.root.children] == [(0.0, True)] * 2


def test_unscored_text_may_be_released_and_is_then_the_most_probable() -> None:
    tree = Tree(
        (9,), SearchConfig(candidates=2, on_unscored="release"), seed=5, max_tokens=3, stop=Stop(start=1)
    )
    commits, reason = run_without_scores(tree)
    assert reason == "length"
    assert commits == [(4,), (5, 5)]
