"""`rain calibrate`: its report, its files, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.command import Rain
from self_evaluation import judges

from rain_decoding.demo import SHOWCASE
from rain_decoding.microworld.labelled import demo_answers
from rain_decoding.self_evaluation.reading.probe import load_probe

QUICK = ("calibrate", "--n", "24")


def random_model(folder: Path) -> str:
    """A random Llama in a folder, which knows nothing."""
    tokenizer = judges.byte_level()
    judges.model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def coin_labels(path: Path, n: int) -> Path:
    rng = np.random.default_rng(5)
    rows = (
        {
            "prompt": f"Number {rng.integers(999)}?",
            "answer": f"It is {rng.integers(999)}.",
            "label": bool(i % 2),
        }
        for i in range(n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_random_model_is_found_to_be_chance(rain: Rain, tmp_path: Path) -> None:
    data, criterion = coin_labels(tmp_path / "coin.jsonl", 300), tmp_path / "polite.toml"
    criterion.write_text(judges.POLITE, encoding="utf-8")
    command = (
        "calibrate",
        "--model",
        random_model(tmp_path / "model"),
        "--criterion",
        criterion,
        "--data",
        data,
    )
    result = rain(*command, "--min-label-mass", "0", "--json")
    found = json.loads(result.out)
    assert (result.code, found["verdict"]) == (3, "chance")
    assert found["figures"]["prefix"]["unscored"] == 0

    unscored = rain(*command, "--min-label-mass", "0.9", "--n", "150")
    assert unscored.code == 3 and "150 of 150" in unscored.out
    assert "no better than a coin" in unscored.out and "What may help" in unscored.out
    few = rain(*command, "--min-label-mass", "0", "--n", "12")
    assert few.code == 3 and "use more examples" in few.out


def test_the_demo_model_is_calibrated_and_used(rain: Rain, tmp_path: Path) -> None:
    file, picture = tmp_path / "c.json", tmp_path / "c.png"
    result = rain(*QUICK, "--save", file, "--plot", picture)
    assert result.code == 0, result.err
    for word in ("demo world: 24 answers", "debiased", "suffix", "accept_value = ", "verdict: better"):
        assert word in result.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(file.read_text(encoding="utf-8"))
    chosen = saved["recommendation"]

    trace = tmp_path / "t.jsonl"
    options = ("--set", f"calibration={file}", "--max-tokens", "12", "--trace", trace, "--json")
    used = json.loads(rain("generate", SHOWCASE[3], *options).out)
    names = ("form", "votes", "accept_value", "min_label_mass")
    assert used["calibration"] == {name: chosen[name] for name in names}
    start = json.loads(trace.read_text(encoding="utf-8").splitlines()[0])
    assert start["config"]["calibration"] == str(file)
    assert {name: start["config"][name] for name in names[1:]} == {name: chosen[name] for name in names[1:]}

    other = rain("generate", SHOWCASE[3], *options, "--criterion", "helpfulness")
    assert other.code == 2 and "'harmlessness', not 'helpfulness'" in other.err


@pytest.mark.parametrize("criterion", ["truthfulness", "positive-sentiment", "harmlessness-command"])
def test_every_kind_of_criterion(rain: Rain, criterion: str) -> None:
    result = rain(*QUICK, "--criterion", criterion, "--json")
    found = json.loads(result.out)
    assert found["counts"]["answers"] == 24
    prefix = found["figures"]["prefix"]
    assert (prefix["position_bias"] is None) == (criterion == "truthfulness")
    assert (prefix["statement_accuracy"] is None) == (criterion != "positive-sentiment")
    assert prefix["votes"]["debiased"]["auc"]["value"] > 0.8


def test_an_interruption_shows_what_there_is(
    rain: Rain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rain_decoding.cli import calibrate

    judge_answers = calibrate.judge_answers

    def interrupted(*arguments: Any, **options: Any) -> Any:
        for count, one in enumerate(judge_answers(*arguments, **options)):
            if count == 40:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(calibrate, "judge_answers", interrupted)
    result = rain(*QUICK, "--forms", "prefix,suffix", "--save", tmp_path / "c.json")
    assert result.code == 130
    assert "stopped after 40 of 96" in result.err and "verdict:" in result.out
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--criterion", "harmlessness-zh"), "no labels for the criterion 'harmlessness-zh'"),
        (("--model", "scripted:{script}", "--criterion", "{kind}"), "--data FILE, a JSON object a line"),
        (("--data", "missing.jsonl"), "missing.jsonl cannot be read"),
        (("--save", "nowhere/c.json"), "there is no folder nowhere"),
        (("--plot", "c.doc"), "unknown image format"),
        (("--set", "calibration=x"), "No such option"),
    ],
)
def test_wrong_usage(rain: Rain, script: Path, arguments: tuple[str, ...], problem: str) -> None:
    places = {"script": script / "model.toml", "kind": script / "kind.toml"}
    result = rain("calibrate", *(argument.format(**places) for argument in arguments))
    assert (result.code, result.out) == (2, "")
    assert problem in " ".join(result.err.split())


def labelled_answers(path: Path, n: int) -> Path:
    lines = [
        {
            "messages": [{"role": m.role, "content": m.content} for m in each.messages],
            "answer": each.answer,
            "label": "good" if each.label == "positive" else "bad",
        }
        for each in demo_answers("harmlessness", n)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_command_fits_a_probe_on_labelled_answers(rain: Rain, tmp_path: Path) -> None:
    data, file = labelled_answers(tmp_path / "labelled.jsonl", 60), tmp_path / "probe.json"
    result = rain("calibrate", "--data", data, "--save-probe", file)
    assert result.code == 0, result.err
    assert (
        result.out.startswith("reading: better than a coin: use this (")
        and f'--judge "read#probe={file}"' in result.out
    )
    assert load_probe(file).layers
    judged = rain("generate", SHOWCASE[0], "--judge", f"read#probe={file}", "--json")
    assert judged.code == 0 and json.loads(judged.out)["score"] > 0
    assert "judge: harmlessness (read): layer" in judged.err
    missing = rain("calibrate", "--data", data, "--save-probe", tmp_path / "no" / "probe.json")
    assert missing.code == 2 and "there is no folder" in missing.err


def test_a_rate_of_false_alarms_is_stated_with_what_is_sure_of_it(rain: Rain, tmp_path: Path) -> None:
    data, file = labelled_answers(tmp_path / "labelled.jsonl", 60), tmp_path / "probe.json"
    result = rain("calibrate", "--data", data, "--save-probe", file, "--false-alarms", "0.01")
    found = load_probe(file).figures["false_alarms"]
    labels = [json.loads(line)["label"] for line in data.read_text().splitlines()]
    assert found["of"] == labels.count("good"), "the criterion's own examples do not count"
    assert found["high"] == pytest.approx(binom_high(found["alarms"], found["of"]), abs=1e-3)
    assert f"{found['alarms']} of {found['of']} good answers that were held out were called bad" in result.out
    assert f"at most {found['high']:.1%} (95% confidence)" in result.out
    assert "to promise 0.01 takes 299 good answers at least" in result.out


def binom_high(events: int, n: int) -> float:
    """The largest rate at which so few events are not rarer than 1 in 20, by trying."""
    rates = np.linspace(0, 1, 20001)
    likely = sum(comb(n, k) * rates**k * (1 - rates) ** (n - k) for k in range(events + 1))
    return float(rates[likely >= 0.05].max())


def test_a_probe_that_will_not_be_written_is_said_before_the_judging(rain: Rain, tmp_path: Path) -> None:
    few, file = labelled_answers(tmp_path / "few.jsonl", 12), tmp_path / "probe.json"
    criterion = tmp_path / "polite.toml"
    criterion.write_text(judges.POLITE, encoding="utf-8")
    only = rain("calibrate", "--only", "ask", "--save-probe", file)
    assert only.code == 2 and "--save-probe: --only ask leaves nothing to write" in only.err
    assert "leave out --only" in only.err
    for further in ("--save", "--plot"):
        target = tmp_path / "c.png"
        command = ("--criterion", criterion, "--data", few, "--save-probe", file, further, target)
        result = rain("calibrate", "--model", random_model(tmp_path / "model"), *command)
        assert result.code == 2 and not target.exists() and not file.exists()
        message = " ".join(result.err.split())
        assert "20 of each are needed" in message and "leave out --save-probe" in message
    read = rain("calibrate", "--only", "read", "--save", tmp_path / "c.json")
    assert read.code == 2 and "--save: --only read leaves nothing to write" in read.err


def test_an_interruption_while_reading_shows_what_was_asked(
    rain: Rain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("rain_decoding.calibration.reading.read_answers", interrupted)
    result = rain("calibrate", "--n", "60", "--forms", "suffix", "--save", tmp_path / "c.json")
    assert result.code == 130 and "stopped while reading" in result.err
    assert "asking (suffix): better than a coin" in result.out and (tmp_path / "c.json").exists()


@pytest.mark.parametrize("kind", ["name", "file", "sentence"])
def test_what_is_saved_is_taken_by_the_other_commands(rain: Rain, tmp_path: Path, kind: str) -> None:
    criterion, file = tmp_path / "polite.toml", tmp_path / "c.json"
    criterion.write_text(judges.POLITE, encoding="utf-8")
    data = coin_labels(tmp_path / "coin.jsonl", 8)
    chosen: tuple[str | Path, ...] = {
        "name": ("--criterion", "harmlessness"),
        "file": ("--criterion", criterion),
        "sentence": ("--principle", "The answer is polite, and (if it can be) short."),
    }[kind]
    result = rain("calibrate", *chosen, "--data", data, "--only", "ask", "--forms", "prefix", "--save", file)
    assert result.code in (0, 3) and file.is_file(), result.err
    used = rain(
        "generate", SHOWCASE[3], *chosen, "--set", f"calibration={file}", "--max-tokens", "8", "--json"
    )
    assert used.code == 0, used.err
    assert "calibration" in json.loads(used.out)
    both = f"min(harmlessness, '{criterion}')"
    refused = rain("generate", SHOWCASE[3], "--criterion", both, "--set", f"calibration={file}")
    assert refused.code == 2 and "not for the combination min(" in refused.err
    assert "one criterion" in rain("calibrate", "--criterion", both, "--data", data, "--save", file).err
