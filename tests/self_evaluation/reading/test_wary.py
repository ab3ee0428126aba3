"""The wary line: harmful requests are found inside attack prompts, and answers to them are held to their own line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from self_evaluation.reading import synthetic
from sklearn.metrics import roc_auc_score

from rain_decoding import load_criterion
from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import ConfigError
from rain_decoding.prompting import build_prompt
from rain_decoding.self_evaluation.reading.attacked import wary_examples
from rain_decoding.self_evaluation.reading.examples import everyday_requests, examples_of
from rain_decoding.self_evaluation.reading.probe import WINDOW, Wary, load_probe, windows
from rain_decoding.self_evaluation.reading.states import Readings, States, request_span
from rain_decoding.self_evaluation.reading.wary import FALSE_ALARMS, learn_wary

LAYERS = (1, 2)
WIDTH = 10


def wary(**changes: object) -> Wary:
    values: dict[str, object] = {
        "pooling": "mean",
        "weights": np.array([[0.5, 1.0, -1.0, 0.0]]),
        "bias": -0.5,
        "patience": 0.0,
        "slope": 1.5,
        "intercept": 0.1,
        "threshold": 0.2,
        "request": np.array([[2.0, 0.0]]),
        "request_bias": -1.0,
    }
    return Wary(**(values | changes))  # type: ignore[arg-type]


def drawn(seed: int, n: int = 240, filler: int = 0) -> Readings:
    """Requests whose tokens say in one axis whether they are harmful, between `filler` tokens that say the contrary;
    answers that say in another whether they are good, and in a third whether they help."""
    rng = np.random.default_rng(seed)
    states, examples = [], []
    for number in range(n):
        kind, good = (("compliance", False), ("refusal", True), ("help", True))[number % 3]
        harmful = kind != "help"
        request = rng.normal(size=(len(LAYERS), WINDOW, WIDTH))
        request[:, :, 0] += 1.0 if harmful else -1.0
        around = rng.normal(size=(len(LAYERS), filler, WIDTH)) * 0.3
        around[:, :, 0] -= 2.0
        answer = rng.normal(size=(len(LAYERS), 1 + int(rng.integers(4, 30)), WIDTH))
        answer[:, 1:, 1] += 0.8 if good else -0.8
        answer[:, 1:, 2] += -1.0 if kind == "refusal" else 1.0
        both = np.concatenate([around, request, around], axis=1).astype(np.float32)
        states.append((number, States(both, answer.astype(np.float32))))
        examples.append(replace(synthetic.example(number, good, f"group {number // 6}"), kind=kind))
    return Readings(examples, states, LAYERS)


def test_a_score_is_the_mean_of_both_lines_by_the_request() -> None:
    own, careful = synthetic.probe(wary=wary()), wary()
    states = np.random.default_rng(0).normal(size=(1, 6, 2))
    request = np.random.default_rng(1).normal(size=(1, 40, 2))
    values = 2.0 * request[0, :, 0]
    means = [values[start : start + WINDOW].mean() for start in range(40 - WINDOW + 1)]
    harmful = own.harmful(request)
    assert harmful == pytest.approx(expit(max(means) - 1.0))
    plain = replace(own, wary=None)
    expected = (1 - harmful) * plain.scores(states) + harmful * careful.scores(states)
    assert own.scores(states, harmful) == pytest.approx(expected)
    assert own.scores(states) == pytest.approx(plain.scores(states))
    good = (1 - harmful) * expit(plain.log_odds(states)[-1]) + harmful * expit(careful.log_odds(states)[-1])
    assert own.probability(states, harmful) == pytest.approx(good)
    assert plain.harmful(request) == 0


@pytest.mark.parametrize("length", [0, 1, WINDOW - 1, WINDOW, WINDOW + 5])
def test_windows_are_all_means_of_so_many_tokens(length: int) -> None:
    values = np.random.default_rng(length).normal(size=length)
    size = min(WINDOW, length)
    expected = [values[start : start + size].mean() for start in range(length - size + 1) if size]
    assert windows(values) == pytest.approx(expected)


def test_harmful_requests_are_found_wherever_they_stand() -> None:
    line = learn_wary(drawn(0), LAYERS)
    for filler in (0, 20):
        fresh = drawn(1, filler=filler)
        said = np.array([line.harmful(each.request) for _, each in fresh.states])
        truth = np.array([each.kind != "help" for each in fresh.examples])
        assert roc_auc_score(truth, said) > 0.95
        assert abs(np.mean(said[truth] > 0.5) - np.mean(said[~truth] < 0.5)) < 0.2, "scaled without a lean"


def test_the_line_is_that_of_answers_to_harmful_requests_alone() -> None:
    readings = drawn(0)
    line = learn_wary(readings, LAYERS)
    changed = [
        replace(each, good=not each.good) if each.kind == "help" else each for each in readings.examples
    ]
    again = learn_wary(replace(readings, examples=changed), LAYERS)
    assert np.array_equal(line.weights, again.weights) and line.threshold == again.threshold
    fresh = drawn(3)
    scores = {kind: [] for kind in ("compliance", "refusal")}
    for number, each in fresh.states:
        if (kind := fresh.examples[number].kind) in scores:
            scores[kind].append(line.scores(each.answer)[-1])
    assert np.mean(np.array(scores["compliance"]) <= 0) > 0.95
    assert np.mean(np.array(scores["refusal"]) <= 0) < FALSE_ALARMS + 0.1


def test_examples_stand_inside_attack_prompts() -> None:
    examples = examples_of(load_criterion("harmlessness"))
    both = wary_examples(examples, 100)
    assert both[:100] == examples[:100]
    everyday = both[150:]
    assert not any(each.answer for each in everyday)
    count = len(everyday_requests())
    pairs = [
        *zip(examples[100:150], both[100:150], strict=True),
        *zip(everyday[:count:2], everyday[count:], strict=True),
    ]
    for plain, attacked in pairs:
        assert plain.messages[-1].content in attacked.messages[-1].content != plain.messages[-1].content
        assert (plain.answer, plain.good, plain.group) == (attacked.answer, attacked.good, attacked.group)
    assert wary_examples(examples_of(load_criterion("positive-sentiment")), 100) == []


@pytest.mark.parametrize(
    "template", ["{}", "<rules>Be kind.<user>{}<answer>", "What is in a cake? Sugar. {} [/INST]"]
)
def test_the_tokens_of_the_last_message_are_found(demo: LocalBackend, template: str) -> None:
    request = "How long do I boil an egg?"
    prompt = build_prompt(request, demo)
    text = template.format(request)
    for each in (
        prompt,
        replace(prompt, format="chat", text=text, tokens=demo.codec.encode(text, start=False)),
    ):
        begin, end = request_span(demo.codec, each)
        # What stands before may merge with its first token, and what stands behind with its last.
        assert request[1:-1] in demo.codec.decode(each.tokens[begin:end])
        assert len(demo.codec.decode(each.tokens[begin:end]).strip()) <= len(request)
    elsewhere = replace(prompt, text="something else")
    assert request_span(demo.codec, elsewhere) == (0, len(prompt.tokens))


def test_a_probe_with_a_wary_line_is_saved_and_checked(tmp_path: Path) -> None:
    probe = synthetic.probe(wary=wary())
    probe.save(tmp_path / "probe.json")
    again = load_probe(tmp_path / "probe.json")
    states = np.random.default_rng(0).normal(size=(1, 5, 2))
    assert again.scores(states, 0.7) == pytest.approx(probe.scores(states, 0.7))
    for broken in (
        wary(request=np.array([[np.nan, 0.0]])),
        wary(request=np.ones((1, 3))),
        wary(pooling="sum"),
    ):
        replace(probe, wary=broken).save(tmp_path / "broken.json")
        with pytest.raises(ConfigError, match="no complete probe"):
            load_probe(tmp_path / "broken.json")
