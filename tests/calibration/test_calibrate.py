"""Calibration of judges whose every log-odds is known, of the demo model, and its use by a decoder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_worlds import CRITERION

from rain_decoding import ConfigError, Message, RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.scripted import ScriptedBackend, ScriptedCodec
from rain_decoding.calibration import Calibration, LabelledAnswer, calibrate, load_calibration
from rain_decoding.calibration.judging import judge_answers
from rain_decoding.cli.calibrate import AT_ONCE
from rain_decoding.demo import MODEL_DIR
from rain_decoding.microworld import find_request, oracle_score
from rain_decoding.microworld.labelled import demo_answers
from rain_decoding.self_evaluation.loading import find_criterion

TWO_ORDERS = replace(CRITERION, both_orders=True)
KIND_FIRST = "(A) It is kind."
OWN = ("prefix", "suffix")


def leaning_judge() -> ScriptedBackend:
    """Reads evidence, bias and label mass off the text: log-odds of the first option are evidence and bias."""
    codec = ScriptedCodec(["<end>", "A", "B"], "<end>")

    def logits(tokens: Any) -> np.ndarray:
        text = codec.decode(tokens)
        evidence, bias, mass = map(float, re.findall(r"e=(\S+) b=(\S+) m=(\S+);", text)[-1])
        odds = np.exp((evidence if KIND_FIRST in text else -evidence) + bias)
        first = mass * odds / (1 + odds)
        return np.log([1 - mass, first, mass - first])

    return ScriptedBackend(logits, codec, name="leaning")


def leaning_answers(n: int, seed: int = 0, **fixed: float) -> tuple[list[LabelledAnswer], np.ndarray]:
    """Answers that tell the judge what to think, and an array of their label (1, 0), evidence, bias and mass."""
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [np.arange(n) % 2, rng.normal(0, 1, n), rng.normal(0.4, 0.3, n), rng.uniform(0.2, 0.9, n)], axis=1
    )
    drawn[:, 1] += 2 * drawn[:, 0] - 1 + fixed.get("shift", 0)
    drawn = drawn.round(4)
    answers = [
        LabelledAnswer(
            (Message("user", "Well?"),),
            f"e={evidence} b={bias} m={mass};",
            "positive" if good else "negative",
            index // 2,
        )
        for index, (good, evidence, bias, mass) in enumerate(drawn)
    ]
    return answers, drawn


def test_figures_of_a_known_judge() -> None:
    answers, drawn = leaning_answers(60)
    good, evidence, bias, mass = drawn.T
    good = good == 1
    found = calibrate(leaning_judge(), TWO_ORDERS, forms=OWN, answers=answers, min_label_mass=0.3)
    assert set(found.figures) == {"prefix", "suffix"}
    for figures in found.figures.values():
        scored = mass >= 0.3
        assert (figures["n"], figures["unscored"], figures["too_long"]) == (60, int((~scored).sum()), 0)
        assert 0 < figures["unscored"] < 30
        assert figures["label_mass"]["mean"]["value"] == pytest.approx(mass.mean(), abs=1e-4)
        assert figures["label_mass"]["percentile_5"] == pytest.approx(np.percentile(mass, 5), rel=1e-3)
        assert figures["position_bias"]["mean"]["value"] == pytest.approx(bias[scored].mean(), abs=1e-4)
        assert figures["position_bias"]["standard_deviation"] == pytest.approx(bias[scored].std(), abs=1e-3)
        ninety_five = np.percentile(np.abs(bias[scored]), 95)
        assert figures["position_bias"]["percentile_95_absolute"] == pytest.approx(ninety_five, rel=1e-3)
        agree = np.sign(evidence + bias) == np.sign(evidence - bias)
        assert figures["order_agreement"]["value"] == pytest.approx(agree[scored].mean(), abs=1e-4)

        debiased = figures["votes"]["debiased"]
        right = scored & ((evidence > 0) == good)
        assert debiased["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-4)
        pairs = [
            0.5 if not scored[i] or not scored[j] else float(evidence[i] > evidence[j])
            for i in np.flatnonzero(good)
            for j in np.flatnonzero(~good)
        ]
        assert debiased["auc"]["value"] == pytest.approx(np.mean(pairs), abs=1e-4)
        hard = scored & (((evidence > np.abs(bias)) & good) | ((evidence <= np.abs(bias)) & ~good))
        assert figures["votes"]["hard"]["accuracy"]["value"] == pytest.approx(hard.mean(), abs=1e-4)


@pytest.fixture(scope="module")
def shifted() -> Calibration:
    """Of a judge that finds everything better than it is."""
    return calibrate(
        leaning_judge(), TWO_ORDERS, forms=OWN, answers=leaning_answers(600, shift=2.0)[0], source="here"
    )


def test_recommendations_for_a_known_judge(shifted: Calibration) -> None:
    _, drawn = leaning_answers(600, shift=2.0)
    chosen = shifted.recommendation
    # Both placements judge alike, and 600 answers show it.
    assert (chosen.form, chosen.votes) == ("suffix", "debiased")
    # The best threshold lies where the two normal distributions cross: at a mean log-odds of 2.
    assert np.tanh(1.5 / 2) < chosen.accept_value < np.tanh(2.5 / 2)
    assert chosen.order_margin == pytest.approx(np.percentile(np.abs(drawn[:, 2]), 95), rel=0.05)
    # A tenth of the 5th percentile of uniform(0.2, 0.9), 0.235, rounded down.
    assert chosen.min_label_mass == 0.02
    assert shifted.verdict == "better"


def test_without_need_the_threshold_stays_at_0_and_few_answers_keep_the_placement() -> None:
    found = calibrate(leaning_judge(), TWO_ORDERS, forms=OWN, answers=leaning_answers(60)[0])
    assert found.recommendation.accept_value == 0.0
    assert found.recommendation.form == "prefix"
    suffix = replace(TWO_ORDERS, placement="suffix")
    assert (
        calibrate(leaning_judge(), suffix, forms=OWN, answers=leaning_answers(60)[0]).recommendation.form
        == "suffix"
    )


def test_one_order_has_no_bias_and_asked_votes_stay() -> None:
    found = calibrate(leaning_judge(), CRITERION, forms=OWN, answers=leaning_answers(20)[0], votes="soft")
    assert found.figures["prefix"]["position_bias"] is None
    assert found.figures["prefix"]["order_agreement"] is None
    assert (found.recommendation.order_margin, found.recommendation.votes) == (None, "soft")


def test_what_does_not_fit_is_unscored() -> None:
    backend = leaning_judge()
    backend.context_length = 300
    answers, _ = leaning_answers(20)
    long = replace(answers[0], messages=(Message("user", "a" * 400),))
    middling = replace(answers[1], answer="a" * 250 + answers[1].answer)
    found = calibrate(backend, TWO_ORDERS, [*answers, long, middling], forms=OWN)
    assert {figures["too_long"] for figures in found.figures.values()} == {2}
    assert found.figures["prefix"]["votes"]["soft"]["accuracy"]["n"] == 22


def test_nothing_stays_cached(demo: LocalBackend) -> None:
    decoder = RainDecoder(demo)
    calibrate(demo, "harmlessness", demo_answers("harmlessness", 1))  # pins what all its prompts begin with
    before = demo.engine.slots_used
    calibrate(demo, "harmlessness", demo_answers("harmlessness", 8))
    assert demo.engine.slots_used == before
    assert decoder.config.calibration == ""


def test_the_demo_model_is_as_right_as_a_direct_count_by_the_oracle(demo: LocalBackend) -> None:
    """The reference: plain forwards over judge prompts that the world writes, scored against the oracle."""
    from demo_model.measure import judged
    from demo_model.tokenizer import load_tokenizer
    from transformers import LlamaForCausalLM

    model, tokenizer = LlamaForCausalLM.from_pretrained(MODEL_DIR).float().eval(), load_tokenizer(MODEL_DIR)
    answers = demo_answers("harmlessness", 24, seed=2)
    found = calibrate(demo, "harmlessness", answers, forms=OWN)
    for placement, figures in found.figures.items():
        for cut, reported in ((False, figures["votes"]["soft"]), (True, figures["votes"]["soft"]["cut"])):
            right = []
            for labelled in answers:
                request = find_request(labelled.messages[0].content)
                if labelled.cut != cut or request is None:
                    continue
                turn = (request, labelled.answer)
                likely = judged(model, tokenizer, "harmlessness", turn, placement == "suffix")
                right.append(max(likely, key=likely.__getitem__) == oracle_score(*turn, "harmlessness"))
            assert len(right) == 24
            assert reported["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-4)
    assert found.verdict == "better"


@pytest.fixture
def saved(tmp_path: Path, shifted: Calibration) -> Path:
    shifted.save(tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json") == shifted
    return tmp_path / "c.json"


def changed(path: Path, **values: Any) -> Path:
    """The file with other values, of the recommendation too."""
    data = json.loads(path.read_text())
    for name, value in values.items():
        (data if name in data else data["recommendation"])[name] = value
    path.write_text(json.dumps(data))
    return path


def test_a_decoder_takes_it_over(saved: Path) -> None:
    config = SearchConfig.preset("thorough", calibration=str(saved))
    decoder = RainDecoder(leaning_judge(), TWO_ORDERS, config)
    chosen = load_calibration(saved).recommendation
    used = decoder.config
    assert (used.accept_value, used.votes, used.min_label_mass) == (chosen.accept_value, "debiased", 0.02)
    assert used.alternatives == SearchConfig.preset("thorough").alternatives
    assert decoder.evaluator.criterion.placement == "suffix"  # type: ignore[attr-defined]
    answer = " e=1.0 b=0.2 m=0.5;"
    assert decoder.judge("Well?", answer).score == pytest.approx(np.tanh(0.5), abs=1e-5)
    assert decoder.judge("Well?", answer.replace("0.5", "0.01")).score is None
    assert decoder.judged_by(replace(TWO_ORDERS, placement="suffix")).evaluator.votes == "debiased"  # type: ignore[attr-defined]


def test_another_model_criterion_or_judge_is_refused(saved: Path, demo: LocalBackend) -> None:
    config = SearchConfig(calibration=str(saved))
    with pytest.raises(ConfigError, match="for the model leaning, not demo"):
        RainDecoder(demo, TWO_ORDERS, config)
    with pytest.raises(ConfigError, match="'kind', not 'harmlessness'"):
        RainDecoder(leaning_judge(), "harmlessness", config)
    with pytest.raises(ConfigError, match="'kind' as it was then"):
        RainDecoder(leaning_judge(), replace(TWO_ORDERS, lead="Hm ("), config)
    from rain_decoding.microworld.oracle_judge import OracleEvaluator

    with pytest.raises(ConfigError, match="not for the judge oracle:harmlessness"):
        RainDecoder(leaning_judge(), OracleEvaluator(), config)


def test_it_says_how_to_ask_for_its_own_criterion(saved: Path) -> None:
    config = SearchConfig(calibration=str(saved))
    with pytest.raises(ConfigError, match="judge by --criterion kind; or run rain calibrate"):
        RainDecoder(leaning_judge(), "harmlessness", config)
    changed(saved, criterion="principle: The answer is polite.")
    with pytest.raises(ConfigError, match="judge by --principle 'The answer is polite.'; or"):
        RainDecoder(leaning_judge(), "harmlessness", config)
    changed(saved, criterion=TWO_ORDERS.name)
    with pytest.raises(ConfigError, match=r"as it was then \(run rain calibrate"):
        RainDecoder(leaning_judge(), replace(TWO_ORDERS, lead="Hm ("), config)


def test_a_chance_verdict_is_said(saved: Path) -> None:
    changed(saved, verdict="chance")
    with pytest.warns(UserWarning, match="found self-evaluation chance"):
        RainDecoder(leaning_judge(), TWO_ORDERS, SearchConfig(calibration=str(saved)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 0}, "of format 2"),
        ({"form": "middle"}, "form = 'middle'"),
        ({"reasons": None}, None),
    ],
)
def test_files_of_other_forms(saved: Path, change: dict[str, Any], problem: str | None) -> None:
    changed(saved, **change)
    if problem is None:
        assert isinstance(load_calibration(saved), Calibration)
        return
    with pytest.raises(ConfigError, match=problem):
        load_calibration(saved)
    saved.write_text("{")
    with pytest.raises(ConfigError, match="is not a calibration"):
        load_calibration(saved)
    with pytest.raises(ConfigError, match="is not a calibration"):
        RainDecoder(leaning_judge(), TWO_ORDERS, SearchConfig(calibration=str(saved.parent / "none.json")))


def test_the_command_judges_so_few_at_once_that_a_slow_models_bar_moves(demo: LocalBackend) -> None:
    answers = demo_answers("harmlessness", 8)
    start, told = demo.counters.tokens_forwarded, []
    criterion = find_criterion("harmlessness", demo)
    for _ in judge_answers(demo, criterion, answers, forms=["suffix"], concurrency=AT_ONCE):
        told.append(demo.counters.tokens_forwarded - start)
    assert told[0] < told[-1] / 3, "the first verdict came long before the last"
