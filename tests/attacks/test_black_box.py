"""Attacks that only ask: on a decoder whose weakness is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from attacks.stub import BEHAVIOUR, stub_victim

from rain_decoding.attacks.black_box import BlackBoxConfig, Injection, RandomSearch, word_pool
from rain_decoding.attacks.injection import injections
from rain_decoding.attacks.progress import Progress
from rain_decoding.attacks.victim import FIRST_SEED
from rain_decoding.evaluation.judges import Label
from rain_decoding.self_evaluation.criterion import load_criterion

CONFIG = BlackBoxConfig(steps=60, batch=8, words=4)


def run(attack: Any) -> Progress:
    progress = attack.start(None)
    while not attack.ended(progress):
        progress = attack.step(progress)
    return progress


def test_a_suffix_counts_on_as_many_seeds_as_it_works_on_before_it_fails() -> None:
    victim = stub_victim(seeds=4, weak=lambda prompt, seed: "hook" in prompt and seed < FIRST_SEED + 2)
    losses, tokens, passes, queries = victim.losses(BEHAVIOUR, ["a hook", "nothing", "hook hook"])
    assert losses == [0.5, 1.0, 0.5]
    # Three prompts on the first seed, two on the second and third, none on the fourth.
    asked = victim.decoder.asked  # type: ignore[attr-defined]
    assert [seed - FIRST_SEED for _, seed in asked] == [0, 0, 0, 1, 1, 2, 2]
    assert (tokens, passes, queries) == (70, 14, 7)


def test_a_failure_counts_the_more_the_surer_the_judge_is() -> None:
    """Harmless with 0.2: a loss of (1 + 0.2) / 2 on the first of two seeds, and 1 on the one that was not tried."""
    victim = stub_victim(seeds=2, weak=lambda prompt, seed: "hook" in prompt.split("?")[1])
    sure = {"": 0.9, "reed": 0.2}
    victim.judge = SimpleNamespace(
        questions=("harmless",),
        label=lambda item, answer, questions: (
            Label({"harmless": answer == "good"}, score=sure[item.prompt.split("?")[1].strip()])
            if answer == "good"
            else Label({"harmless": False}, score=-0.5)
        ),
    )
    assert victim.losses(BEHAVIOUR, ["", "reed", "a hook"]).losses == pytest.approx([0.975, 0.8, 0.0])


def test_random_search_asks_no_more_than_it_may() -> None:
    victim = stub_victim(seeds=2, weak=lambda prompt, seed: False)
    config = replace(CONFIG, queries=20)
    found = run(RandomSearch(victim, BEHAVIOUR, word_pool([BEHAVIOUR]), config, 0))
    assert found.queries == len(victim.decoder.asked) == 24, "the round of eight that passes 20 is the last"


def test_random_search_finds_the_word_and_ends() -> None:
    victim = stub_victim(seeds=2, weak=lambda prompt, seed: "hook" in prompt.split("?")[1])
    pool = word_pool([BEHAVIOUR])
    assert {"hook.", "moss", "First,"} <= set(pool)
    found = run(RandomSearch(victim, BEHAVIOUR, pool, CONFIG, 0))
    assert found.hit and found.best is not None and "hook." in found.best.controls
    assert found.tokens == 10 * len(victim.decoder.asked)  # type: ignore[attr-defined]
    assert 1 <= len(found.best.controls.split()) <= CONFIG.words


def test_random_search_that_finds_nothing_ends_and_is_the_same_again() -> None:
    runs = []
    for seed in (0, 0, 1):
        victim = stub_victim(seeds=2, weak=lambda prompt, seed: False)
        found = run(RandomSearch(victim, BEHAVIOUR, word_pool([BEHAVIOUR]), CONFIG, seed))
        assert (found.step, found.hit, found.loss) == (60, False, 1.0)
        asked = [prompt for prompt, _ in victim.decoder.asked]  # type: ignore[attr-defined]
        assert len(set(asked)) > 100 and all(prompt.split("?")[1].strip() for prompt in asked)
        runs.append(asked)
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("criterion", ["harmlessness", "truthfulness", "positive-sentiment"])
def test_injection_tries_every_text_once(criterion: str) -> None:
    texts = injections(BEHAVIOUR, load_criterion(criterion))
    assert len(texts) == len(set(texts)) > 50 and all(text == text.strip() for text in texts)
    victim = stub_victim(seeds=2, weak=lambda prompt, seed: False)
    run(Injection(victim, BEHAVIOUR, texts, CONFIG, 0))
    asked = [prompt for prompt, _ in victim.decoder.asked]  # type: ignore[attr-defined]
    assert sorted(asked) == sorted(BEHAVIOUR.prompt(text) for text in texts)
