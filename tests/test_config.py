"""`SearchConfig`: ranges, messages, and the presets' constants as ALGORITHM.md has them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from rain_decoding.config import DEFAULT_PRESET, PRESETS, SearchConfig, search_config
from rain_decoding.errors import ConfigError

PAPER: dict[str, Any] = {
    "placement": "criterion",
    "order_margin": 1000,
    "exploration": 2.0,
    "root_uniform_share": 0.25,
    "candidates": 10,
    "token_set_lengths": (1, 2, 4, 10),
    "top_k": 15,
    "candidate_temperature": 1.0,
    "redraw": False,
    "widening": True,
    "max_children": 20,
    "widening_variance": 0.03,
    "widening_value": 0.0,
    "rollout_temperature": 1.0,
    "next_turn_ends": True,
    "similarity": True,
    "similarity_discount": 0.2,
    "similarity_threshold": 0.95,
    "max_simulations": 50,
    "extra_simulations": 15,
    "min_evaluations": 6,
    "value_threshold": 0.8,
    "votes": "hard",
    "min_label_mass": 0.0,
    "on_unscored": "stop",
    "calibration": "",
}
"""The constants of `paper-hh`."""

DIFFERENT: dict[str, dict[str, Any]] = {
    "paper-hh": {},
    "paper-adv": {"min_evaluations": 5, "candidate_temperature": 2.0, "redraw": True},
    "paper-truth": {"min_evaluations": 16, "rollout_endings": "", "next_turn_ends": False},
    "paper-imdb": {},
}

VERIFY_FIRST = {
    "read_every",
    "sentence_endings", "sentence_tokens", "accept_value", "undecided_margin", "alternatives", "first_good",
    "opening_share", "hold_back", "hold_tokens", "proposals", "accept_after", "rising_bar", "contrast", "steering",
    "plain_margin", "rewind_margin", "trust_tokens", "decline_above",
}  # fmt: skip
"""Options that the paper's strategy does not read."""

OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("exploration", -0.1),
    ("exploration", float("nan")),
    ("root_uniform_share", 1.1),
    ("root_uniform_share", -0.1),
    ("candidates", 0),
    ("candidates", 2.5),
    ("top_k", -1),
    ("candidate_temperature", 0.0),
    ("candidate_temperature", "hot"),
    ("max_children", 0),
    ("widening_variance", -1.0),
    ("widening_value", 1.5),
    ("rollout_temperature", 0.0),
    ("strategy", "fastest"),
    ("accept_value", 1.5),
    ("undecided_margin", -0.1),
    ("alternatives", 0),
    ("hold_back", -1),
    ("opening_share", 1.1),
    ("message_attempts", 0),
    ("fallback_alternatives", 0),
    ("sentence_tokens", (5, 4)),
    ("sentence_tokens", (0, 4)),
    ("sentence_endings", None),
    ("similarity_discount", -0.2),
    ("similarity_discount", float("inf")),
    ("similarity_threshold", 1.5),
    ("similarity_threshold", -0.1),
    ("exploration", float("inf")),
    ("max_simulations", 0),
    ("max_simulations", True),
    ("extra_simulations", 0),
    ("min_evaluations", -1),
    ("min_evaluations", 1.5),
    ("value_threshold", -1.5),
    ("min_label_mass", 1.5),
    ("votes", "loud"),
    ("on_unscored", "ignore"),
    ("widening", "yes"),
    ("similarity", None),
    ("token_set_lengths", ()),
    ("token_set_lengths", (1, 0)),
    ("token_set_lengths", (1.5,)),
    ("rollout_endings", None),
    ("criterion", None),
]

AT_THE_EDGE: list[tuple[str, Any]] = [
    ("exploration", 0),
    ("root_uniform_share", 0.0),
    ("root_uniform_share", 1.0),
    ("candidates", 1),
    ("top_k", 0),
    ("max_children", 1),
    ("widening_value", -1),
    ("similarity_discount", 0.0),
    ("similarity_threshold", 1.0),
    ("max_simulations", 1),
    ("extra_simulations", 1),
    ("min_evaluations", 0),
    ("value_threshold", 1.0),
    ("min_label_mass", 1.0),
    ("token_set_lengths", (3,)),
    ("rollout_endings", ""),
]


@pytest.mark.parametrize(("option", "value"), OUT_OF_RANGE)
def test_out_of_range_is_refused_by_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchConfig(**{option: value})
    assert option in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("option", "value"), AT_THE_EDGE)
def test_the_edges_are_allowed(option: str, value: Any) -> None:
    assert getattr(SearchConfig(**{option: value}), option) == value


def test_message_says_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"root_uniform_share = 3 is out of range \(allowed: 0 to 1\)"):
        SearchConfig(root_uniform_share=3)
    with pytest.raises(ConfigError, match=r"votes = 'loud' is unknown \(allowed: hard, soft, debiased\)"):
        SearchConfig(votes="loud")  # type: ignore[arg-type]


def test_unknown_preset_names_it_and_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        SearchConfig.preset("paper-hhh")
    assert "'paper-hhh'" in str(caught.value)
    for name in PRESETS:
        assert name in caught.value.hint


def test_unknown_option_names_it_and_the_known_ones() -> None:
    for call in (
        lambda: SearchConfig.preset("paper-hh", simulations=3),
        lambda: SearchConfig().with_changes(simulations=3),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert "'simulations'" in str(caught.value)
        assert "max_simulations" in caught.value.hint


def test_changes_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="max_simulations"):
        SearchConfig.preset("paper-hh", max_simulations=0)
    assert SearchConfig.preset("paper-adv", max_simulations=7).max_simulations == 7
    assert PRESETS["paper-adv"].max_simulations == 50


@pytest.mark.parametrize(
    ("text", "proposals"),
    [("", ()), ("sampled", ("sampled",)), ("openings, guided:2,", ("openings", "guided:2"))],
)
def test_lists_in_text_form_may_be_empty(text: str, proposals: tuple[str, ...]) -> None:
    assert search_config("balanced", [f"proposals={text}"]).proposals == proposals
    for name in ("token_set_lengths", "sentence_tokens"):
        with pytest.raises(ConfigError, match=rf"{name} = \(\)"):
            search_config("balanced", [f"{name}="])


@pytest.mark.parametrize("name", DIFFERENT)
def test_paper_presets_hold_the_papers_constants(name: str) -> None:
    config = SearchConfig.preset(name)
    wanted = {**PAPER, **DIFFERENT[name]}
    assert {option: getattr(config, option) for option in wanted} == wanted
    options = {field.name for field in dataclasses.fields(SearchConfig)}
    assert config.strategy == "paper"
    assert options - wanted.keys() - VERIFY_FIRST <= {
        "message_attempts",
        "rollout_endings",
        "eager_expansion",
        "criterion",
        "strategy",
        "fallback",
        "fallback_alternatives",
        "read_surely",
    }


@pytest.mark.parametrize("name", ["paper-hh", "paper-adv", "paper-imdb"])
def test_paper_rollouts_end_at_the_papers_characters(name: str) -> None:
    endings = SearchConfig.preset(name).rollout_endings
    assert {ending for ending in endings if ending.isascii()} == set(",.?:;\n")


def test_every_preset_has_a_criterion() -> None:
    assert {name: config.criterion for name, config in PRESETS.items()} == {
        "fast": "harmlessness",
        "balanced": "harmlessness",
        "thorough": "harmlessness",
        "paper-hh": "harmlessness",
        "paper-adv": "harmlessness-command",
        "paper-truth": "truthfulness",
        "paper-imdb": "positive-sentiment",
    }
    assert DEFAULT_PRESET == "balanced"


def test_set_lengths_and_embeddings_follow_from_the_options() -> None:
    config = SearchConfig()
    assert [config.token_set_length(depth) for depth in (0, 1, 2, 3, 9)] == [1, 2, 4, 10, 10]
    assert config.needs_embeddings
    assert SearchConfig(similarity=False).needs_embeddings
    assert SearchConfig(widening=False).needs_embeddings
    assert not SearchConfig(similarity=False, widening=False).needs_embeddings


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SearchConfig().exploration = 3.0  # type: ignore[misc]
