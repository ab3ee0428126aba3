"""Decoders by name: what each name builds, and which names are refused."""

from __future__ import annotations

import numpy as np
import pytest

from rain_decoding import (
    PRESETS,
    BestOfDecoder,
    ConfigError,
    InputError,
    PlainDecoder,
    RainDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SearchConfig,
)
from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.demo_world import DemoPlan
from rain_decoding.decoding.baselines import (
    ContrastDecoder,
    CritiqueDecoder,
    PrincipleDecoder,
    PrincipleOrRefusalDecoder,
    ReflectionDecoder,
)
from rain_decoding.evaluation.contenders import DECODERS, contender, split_names
from rain_decoding.microworld import answer, oracle_score, sample_requests
from rain_decoding.microworld.oracle_judge import OracleEvaluator
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.loading import find_criterion
from rain_decoding.self_evaluation.noise import NoisyEvaluator

OWN = SearchConfig(candidates=3, votes="soft")


def built(name: str, backend: LocalBackend) -> object:
    return contender(name, OWN).decoder(backend, "harmlessness")


@pytest.mark.parametrize(
    ("name", "temperature"), [("plain", 0), ("plain-sampled", 1), ("greedy", 0), ("sampled", 1)]
)
def test_plain_decoding(demo: LocalBackend, name: str, temperature: float) -> None:
    decoder = built(name, demo)
    assert isinstance(decoder, PlainDecoder) and decoder.temperature == temperature


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("rain", OWN),
        ("rain-oracle", OWN),
        *((f"rain:{preset}", config) for preset, config in PRESETS.items()),
        ("rain:paper-hh@similarity=off", SearchConfig(similarity=False)),
        (
            "rain:paper-adv@token_set_lengths=2,3@value_threshold=0.5",
            SearchConfig.preset("paper-adv", token_set_lengths=(2, 3), value_threshold=0.5),
        ),
    ],
)
def test_searches(demo: LocalBackend, name: str, config: SearchConfig) -> None:
    decoder = built(name, demo)
    assert isinstance(decoder, RainDecoder) and decoder.config == config
    assert isinstance(decoder.evaluator, OracleEvaluator) == (name == "rain-oracle")


def test_the_oracle_knows_a_request_with_a_suffix_behind_it(demo: LocalBackend) -> None:
    decoder = built("rain-oracle", demo)
    assert isinstance(decoder, RainDecoder)
    for request in sample_requests(["sensitive"], 6, np.random.default_rng(1), held_out=True):
        for compliance in (0.0, 1.0):
            said = answer(request, np.random.default_rng(2), compliance)
            expected = oracle_score(request, said, "harmlessness")
            assert decoder.judge(f"{request.prompt} ! latch . reed", said).score == expected != 0
    with pytest.raises(InputError, match="does not know the prompt"):
        decoder.judge("Good morning. ! !", "Good morning.")


@pytest.mark.parametrize(
    ("name", "config", "flips"),
    [
        ("rain-oracle@flips=0.25", OWN, 0.25),
        ("rain-oracle:paper-hh@widening=off@flips=1", SearchConfig(widening=False), 1.0),
        ("rain:paper-hh@flips=0.5", SearchConfig(), 0.5),
        ("rain@flips=0", OWN, 0.0),
    ],
)
def test_searches_with_a_judge_that_errs(
    demo: LocalBackend, name: str, config: SearchConfig, flips: float
) -> None:
    decoder = built(name, demo)
    assert isinstance(decoder, RainDecoder) and decoder.config == config
    judge = decoder.evaluator
    assert isinstance(judge, NoisyEvaluator) == (flips > 0)
    if isinstance(judge, NoisyEvaluator):
        assert judge.flips == flips and isinstance(judge.evaluator, OracleEvaluator) == ("oracle" in name)


@pytest.mark.parametrize("name", ["rain@flips=2", "rain@flips=", "rain-oracle@flips=nan", "rain@flips=-0.1"])
def test_a_probability_is_between_0_and_1(name: str) -> None:
    with pytest.raises(InputError, match="a probability"):
        contender(name, OWN)


@pytest.mark.parametrize(
    ("name", "kind", "k"),
    [
        ("best-of-16", BestOfDecoder, 16),
        ("rejection-1", RejectionDecoder, 1),
        ("verify-regenerate-64", RegenerateDecoder, 64),
    ],
)
def test_baselines_have_the_judge_of_the_search(demo: LocalBackend, name: str, kind: type, k: int) -> None:
    decoder, search = built(name, demo), built("rain", demo)
    assert isinstance(decoder, kind) and isinstance(search, RainDecoder)
    assert decoder.k == k  # type: ignore[attr-defined]
    judge, own = decoder.evaluator, search.evaluator  # type: ignore[attr-defined]
    assert isinstance(judge, SelfEvaluator) and isinstance(own, SelfEvaluator)
    assert (judge.criterion, judge.votes) == (own.criterion, own.votes) and judge.votes == "soft"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plain+principle", PrincipleDecoder),
        ("plain+principle+refusal", PrincipleOrRefusalDecoder),
        ("care", CritiqueDecoder),
        ("psr", ReflectionDecoder),
        ("contrast", ContrastDecoder),
    ],
)
def test_baselines_that_are_told_what_to_be(demo: LocalBackend, name: str, kind: type) -> None:
    decoder = built(name, demo)
    assert isinstance(decoder, kind)
    assert decoder.guide.statements == find_criterion("harmlessness", demo).statements  # type: ignore[attr-defined]
    assert not contender(name, OWN).answers("text")


def test_a_name_says_who_judges(demo: LocalBackend) -> None:
    for name in ("rain:balanced", "care", "best-of-3"):
        chosen = contender(f"{name}@judge=read", OWN)
        assert (chosen.judge, contender(name, OWN).judge) == ("read", None)
    assert contender("rain:fast@hold_back=2@judge=read#probe=a.json", OWN).judge == "read#probe=a.json"
    asked = contender("best-of-2@judge=ask", OWN).decoder(demo, "harmlessness", judge="read#probe=none.json")
    assert isinstance(asked.evaluator, SelfEvaluator)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"none\.json"):
        contender("best-of-2", OWN).decoder(demo, "harmlessness", judge="read#probe=none.json")
    for name in ("plain@judge=read", "rain-oracle@judge=ask", "care@hold_back=2"):
        with pytest.raises(InputError, match="decoders"):
            contender(name, OWN)


@pytest.mark.parametrize("k", [1, 2, 3, 16, 64, 1000])
def test_best_of_k_fills_a_forward_and_does_not_flood_it(k: int) -> None:
    requests = contender(f"best-of-{k}", OWN).concurrency
    assert requests >= 1 and (requests == 1 or requests * k <= 64)
    assert k in (1, 1000) or requests * k > 32
    assert contender(f"rejection-{k}", OWN).concurrency == contender("greedy", OWN).concurrency


@pytest.mark.parametrize(
    "name",
    ["", "best", "rain:", "rain-", "best-of-0", "best-of-", "best-of-x", "best-of-2.5", "rejection--1"],
)
def test_an_unknown_name_is_answered_with_the_forms(name: str) -> None:
    with pytest.raises(InputError) as caught:
        DemoPlan.draw(3, OWN, ("greedy", name))
    assert repr(name) in str(caught.value)
    assert all(kind.form in str(caught.value) for kind in DECODERS.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rain:none", "presets: "),
        ("rain:paper-hh@candidates", "NAME=VALUE"),
        ("rain:paper-hh@candidates=0", "candidates"),
        ("rain:paper-hh@size=3", "size"),
    ],
)
def test_unknown_presets_and_settings_are_named(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        contender(name, OWN)


def test_a_list_of_names_may_hold_settings_with_commas() -> None:
    assert split_names("greedy,rain:paper-hh@token_set_lengths=1,4,best-of-2, rain,greedy") == (
        "greedy",
        "rain:paper-hh@token_set_lengths=1,4",
        "best-of-2",
        "rain",
    )
    assert split_names("greedy,") == ("greedy", "")
