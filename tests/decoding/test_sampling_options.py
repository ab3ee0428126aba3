"""How a request may draw tokens: temperature, top_p, logit_bias and penalties, in every decoder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np
import pytest
from decoder_worlds import (
    CRITERION,
    GOOD,
    PLAIN_SEARCH,
    WORDS,
    Script,
    babble,
    lock_world,
    scripted,
    thinking_world,
)
from scipy.stats import chisquare

from rain_decoding import (
    BestOfDecoder,
    InputError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    SelfRefineDecoder,
)
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.types import Completion, Decode, LabelProbabilities, LogitBias, Sample, TopTokens

NEXT = {" a": 0.5, " b": 0.3, " c": 0.15, " d": 0.05}
DRAWS = 600
BALANCED = SearchConfig.preset("balanced", sentence_tokens=(1, 8))
CONFIGS = {"balanced": BALANCED, "paper": PLAIN_SEARCH}


def one_word(text: str) -> dict[str, float]:
    """Any word, and all of them are fine."""
    if text.endswith("It is ("):
        return {"A": 0.9, "B": 0.1}
    return NEXT if text.endswith(":") else {"<end>": 1.0}


def one_word_world(script: Script = one_word) -> Any:
    return scripted(script, ["A", "B", *NEXT])


def token(backend: ScriptedBackend, text: str) -> int:
    (found,) = backend.codec.encode(text)
    return found


def comparable(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.score, completion.finish_reason


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, {" a": 1.0}),
        ({"temperature": 1.0}, NEXT),
        ({"temperature": 0.5}, {word: share**2 for word, share in NEXT.items()}),
        # 0.5 + 0.3 is less than 0.9, so the third token is the last one kept.
        ({"temperature": 1.0, "top_p": 0.9}, dict(list(NEXT.items())[:3])),
        ({"temperature": 1.0, "top_k": 2}, dict(list(NEXT.items())[:2])),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.6}, dict(list(NEXT.items())[:2])),
        # A bias of log 3 makes " d" three times as probable.
        ({"temperature": 1.0, "bias": {" d": float(np.log(3))}}, {**NEXT, " d": 0.15}),
        ({"bias": {" a": -100.0}}, {" b": 1.0}),
    ],
    ids=str,
)
def test_good_text_is_drawn_as_the_request_says(options: dict[str, Any], shares: dict[str, float]) -> None:
    backend = one_word_world()
    request = {name: value for name, value in options.items() if name != "bias"}
    bias = {token(backend, word): value for word, value in options.get("bias", {}).items()}
    decoder = RainDecoder(backend, CRITERION, BALANCED)
    prompts = [f"prompt {draw}" for draw in range(DRAWS)]
    drawn = Counter(c.text for c in decoder.generate_batch(prompts, max_tokens=1, logit_bias=bias, **request))
    assert set(drawn) == {word.strip() for word in shares}
    if len(shares) > 1:
        expected = np.array([*shares.values()]) / sum(shares.values()) * DRAWS
        assert chisquare([drawn[word.strip()] for word in shares], expected).pvalue > 1e-3, drawn


def test_a_request_overrides_the_plain_decoders_own() -> None:
    backend = one_word_world()
    greedy, drawing = PlainDecoder(backend), PlainDecoder(backend, temperature=1.0, top_p=0.9)
    for seed in range(20):
        asked = greedy.generate("x", seed=seed, temperature=1.0, top_p=0.9)
        assert comparable(asked) == comparable(drawing.generate("x", seed=seed))
        assert drawing.generate("x", seed=seed, temperature=0).text == "a"
        banned = {token(backend, " a"): -100.0, token(backend, " b"): -100.0}
        assert drawing.generate("x", seed=seed, logit_bias=banned).text in ("c", "d")
    narrow = {drawing.generate("x", seed=seed, top_p=0.6).text for seed in range(60)}
    assert narrow == {"a", "b"}
    assert {drawing.generate("x", seed=seed, top_k=1).text for seed in range(20)} == {"a"}


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    decoder = PlainDecoder(one_word_world())
    assert {decoder.generate("x", seed=seed, temperature=1e-308).text for seed in range(5)} == {"a"}


@pytest.mark.parametrize(
    "options", [{"temperature": 1.0}, {"temperature": 0}, {"top_p": 0.5}, {"top_k": 5}], ids=str
)
def test_decoders_with_temperatures_of_their_own_refuse_another(options: dict[str, Any]) -> None:
    backend = lock_world()
    decoders: list[Decoder] = [
        RainDecoder(backend, CRITERION, PLAIN_SEARCH),
        BestOfDecoder(backend, CRITERION, 2),
        SelfRefineDecoder(backend, CRITERION),
    ]
    for decoder in decoders:
        with pytest.raises(InputError, match="temperatures of their own") as caught:
            decoder.generate("Open the lock.", **options)
        assert "balanced" in caught.value.hint


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_banned_token_is_never_generated_but_judges(config: SearchConfig) -> None:
    """ " Sure" is banned, so the other answer is the only one; "A", a label, is banned, but judges all the same."""
    backend = lock_world()
    banned = {token(backend, " Sure"): -100.0, token(backend, "A"): -100.0}
    decoder = RainDecoder(backend, CRITERION, config)
    completion = decoder.generate("Open the lock.", logit_bias=banned)
    assert completion.text == GOOD and completion.usage.rewinds == 0
    assert completion.score == decoder.judge("Open the lock.", GOOD).score


def appalled(text: str) -> dict[str, float]:
    """Many answers, all of them bad."""
    return {"A": 0.1, "B": 0.9} if text.endswith("It is (") else babble(text)


@pytest.mark.parametrize("kind", ["paper", "verify first", "plain", "baseline", "self-refine", "thinking"])
def test_all_that_is_generated_is_biased(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = thinking_world() if kind == "thinking" else scripted(appalled, WORDS)
    widening = SearchConfig(
        candidates=2, token_set_lengths=(1, 1, 2), max_simulations=60, widening_variance=10
    )
    decoders: dict[str, Callable[[], Decoder]] = {
        "paper": lambda: RainDecoder(backend, CRITERION, widening),
        "verify first": lambda: RainDecoder(backend, CRITERION, BALANCED),
        "plain": lambda: PlainDecoder(backend),
        "baseline": lambda: BestOfDecoder(backend, CRITERION, 2),
        "self-refine": lambda: SelfRefineDecoder(backend, CRITERION),
        "thinking": lambda: RainDecoder(backend, CRITERION, BALANCED, thinking=True),
    }
    decoder = decoders[kind]()
    requests: list[Any] = []
    submit = backend.submit

    def noted(request: Any, owner: int) -> Any:
        requests.append(request)
        return submit(request, owner)

    monkeypatch.setattr(backend, "submit", noted)
    completion = decoder.generate(
        "Well?",
        logit_bias={3: 0.5, 2: 1},
        frequency_penalty=0.3,
        presence_penalty=-1,
        max_tokens=20,
        trace=True,
    )
    generated = [request for request in requests if not isinstance(request, LabelProbabilities)]
    expected = LogitBias(((2, 1), (3, 0.5)), frequency=0.3, presence=-1)
    assert generated and all(request.logit_bias == expected for request in generated)
    assert all(0 < request.stop.start <= len(request.prefix) for request in generated)
    kinds = {type(request) for request in generated}
    if kind == "paper":
        assert kinds == {TopTokens, Sample, Decode}
        assert any(event["event"] == "widen" for event in completion.trace)
    elif kind == "verify first":
        assert kinds == {TopTokens, Decode} and completion.usage.rewinds


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_bias_is_a_model_with_other_logits(config: SearchConfig) -> None:
    def biased(text: str) -> dict[str, float]:
        weights = one_word(text)
        return weights if "A" in weights else {word: weights[word] * factors.get(word, 1) for word in weights}

    def judged(text: str, script: Script) -> dict[str, float]:
        bad = text.endswith("It is (") and (" d" in text or " a" in text)
        return {"A": 0.1, "B": 0.9} if bad else script(text)

    factors = {" d": 20.0, " b": 0.1}
    other = one_word_world(lambda text: judged(text, biased))
    backend = one_word_world(lambda text: judged(text, one_word))
    bias = {token(backend, word): float(np.log(factor)) for word, factor in factors.items()}
    for seed in range(10):
        expected = RainDecoder(other, CRITERION, config).generate("x", seed=seed)
        completion = RainDecoder(backend, CRITERION, config).generate("x", seed=seed, logit_bias=bias)
        assert comparable(completion) == comparable(expected)
        assert completion.usage.simulations == expected.usage.simulations


KINDS = ["openings:2", "sampled:2", "guided:2", "critique:2", "contrast:2", "declined"]


@pytest.mark.parametrize(
    "config",
    [PLAIN_SEARCH, BALANCED, replace(BALANCED, proposals=tuple(KINDS), max_children=12), None],
    ids=["paper", "balanced", "all kinds", "plain"],
)
@pytest.mark.parametrize(
    "penalties",
    [{"frequency_penalty": 1.5}, {"presence_penalty": -2}, {"frequency_penalty": -1, "presence_penalty": 2}],
    ids=str,
)
def test_a_penalty_is_a_model_that_minds_what_its_answer_holds(
    config: SearchConfig | None, penalties: dict[str, float]
) -> None:
    """OpenAI's formula, worked out on the text: whatever prompt an answer stands behind, only its words count."""

    def minds(text: str) -> dict[str, float]:
        weights = babble(text)
        if text.endswith("It is ("):
            return weights
        said = Counter(re.findall(r" w\d|[,.]", text.rpartition("Assistant:")[2]))
        lost = {
            word: count * penalties.get("frequency_penalty", 0) + penalties.get("presence_penalty", 0)
            for word, count in said.items()
        }
        return {word: weight * exp(-lost.get(word, 0)) for word, weight in weights.items()}

    def answer(script: Script, seed: int, **options: float) -> Completion:
        backend = scripted(script, WORDS)
        if config is None:
            return PlainDecoder(backend, temperature=1.0).generate("A w1.", seed=seed, **options)
        return RainDecoder(backend, CRITERION, config).generate("A w1.", seed=seed, max_tokens=20, **options)

    texts = set()
    for seed in range(6):
        expected = answer(minds, seed)
        assert comparable(answer(babble, seed, **penalties)) == comparable(expected)
        texts.add(expected.text == answer(babble, seed).text)
    assert False in texts, "the penalties change something"


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": 101},
        {"temperature": float("nan")},
        {"temperature": True},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_k": True},
        {"logit_bias": [(1, 2)]},
        {"logit_bias": {"1": 2}},
        {"logit_bias": {-1: 2}},
        {"logit_bias": {1: 101}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {10**6: 1}},
        {"frequency_penalty": 2.1},
        {"presence_penalty": -3},
        {"presence_penalty": True},
    ],
    ids=str,
)
def test_values_out_of_range(options: dict[str, Any]) -> None:
    (name,) = options
    for decoder in (PlainDecoder(lock_world()), RainDecoder(lock_world(), CRITERION)):
        with pytest.raises(InputError, match=name):
            decoder.generate("Open the lock.", **options)
