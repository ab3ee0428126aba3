"""How rarely text is judged that has been good: by what a question costs beside what is decoded in vain."""

from __future__ import annotations

import numpy as np
import pytest

from rain_decoding.config import PRESETS, SearchConfig
from rain_decoding.search.sentences import worth_judging
from rain_decoding.search.tree import Tree
from rain_decoding.types import Stop, TokenSet

PROMPT = (1, 2, 3)


def worth(trust: float, cost: float, good: int, rewinds: int = 0) -> int:
    config = SearchConfig(strategy="verify-first", trust_tokens=trust)
    tree = Tree(PROMPT, config, seed=0, max_tokens=5000, stop=Stop(()), question_cost=cost)
    tree.rewinds = rewinds
    return worth_judging(tree, tree.add_child(tree.root, TokenSet((7,) * good), 1.0))


def cost_per_token(interval: np.ndarray, question: float, hazard: float) -> np.ndarray:
    """Questions and vain tokens, over texts that go wrong at a uniformly random place of the interval."""
    vain = [np.mean(int(length) - np.arange(int(length))) for length in interval]
    return question / interval + hazard * np.array(vain)


@pytest.mark.parametrize("trust", [5, 20, 100])
@pytest.mark.parametrize("question", [0.5, 3, 16, 40])
@pytest.mark.parametrize("good", [0, 30, 400])
def test_the_interval_costs_least(trust: float, question: float, good: int) -> None:
    intervals = np.arange(1, 2000)
    best = intervals[np.argmin(cost_per_token(intervals, question, 1 / (good + trust)))]
    assert abs(worth(trust, question, good) - best) <= 1


def test_every_sentence_is_judged_where_a_question_costs_nothing_or_something_was_bad() -> None:
    assert worth(20, 0.0, 100) == worth(0, 16, 100) == worth(20, 16, 100, rewinds=1) == 0


def test_only_presets_of_ours_judge_more_rarely() -> None:
    assert {name for name, config in PRESETS.items() if config.trust_tokens} == {"fast", "balanced"}
