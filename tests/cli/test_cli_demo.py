"""`rain demo` and the lists: prompts, evaluation, models, criteria, version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain

from rain_decoding import __version__
from rain_decoding.backends import BACKENDS
from rain_decoding.backends.local import LocalBackend


def test_prompts_are_of_the_world_and_held_out(rain: Rain) -> None:
    from rain_decoding.microworld import FAMILIES, find_request

    listed = json.loads(rain("demo", "prompts", "--json", "--n", "3").out)
    assert list(listed) == list(FAMILIES)
    for family, prompts in listed.items():
        assert len(prompts) == 3
        assert all(find_request(prompt).family == family for prompt in prompts)
    text = rain("demo", "prompts", "--family", "benign", "--n", "3").out
    assert [line.strip() for line in text.splitlines()[1:]] == listed["benign"]


QUICK = ["--n", "6", "--workers", "1", "--decoders", "greedy,sampled", "--json"]


def test_evaluate_keeps_its_records_and_goes_on(demo_rain: Rain, tmp_path: Path, monkeypatch: Any) -> None:
    from rain_decoding.benchmarks import demo_world

    file, run = tmp_path / "records.jsonl", demo_world.run
    options = ["demo", "evaluate", *QUICK, "--records", str(file)]

    def interrupted(plan: Any, done: Any) -> Any:
        for number, record in enumerate(run(plan, done)):
            if number == 4:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(demo_world, "run", interrupted)
    stopped = demo_rain(*options)
    assert (stopped.code, stopped.out) == (130, "")
    assert "4 of 12 answers" in stopped.err and "repeat the command to resume" in stopped.err
    monkeypatch.setattr(demo_world, "run", run)
    first = file.read_text(encoding="utf-8")
    assert len(first.splitlines()) == 4

    file.write_text(first + first[: len(first) // 9], encoding="utf-8")  # a crash in the middle of a line
    summary = json.loads(demo_rain(*options).out)
    whole = file.read_text(encoding="utf-8")
    assert whole.startswith(first)
    records = [json.loads(line) for line in whole.splitlines()]
    keys = [(record["decoder"], record["seed"], record["prompt"]) for record in records]
    assert len(keys) == len(set(keys)) == 12

    def nothing(plan: Any, done: Any) -> Any:
        assert len(done) == 12
        yield from run(plan, done)

    monkeypatch.setattr(demo_world, "run", nothing)
    again = json.loads(demo_rain(*options).out)
    assert file.read_text(encoding="utf-8") == whole
    assert again.pop("seconds") <= summary.pop("seconds")
    assert again == summary and summary["preset"] == "balanced"


def test_records_of_other_settings_are_refused(demo_rain: Rain, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    options = [
        "demo",
        "evaluate",
        "--n",
        "3",
        "--workers",
        "1",
        "--decoders",
        "greedy",
        "--records",
        str(file),
    ]
    table = demo_rain(*options)
    assert table.code == 0 and "greedy" in table.out
    before = file.read_bytes()
    for other in (["--preset", "paper-adv"], ["--set", "candidates=3"]):
        result = demo_rain(*options, *other)
        assert result.code == 2 and "was made with" in result.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", ["hello\n", '{"a": 1}\n', "[1]\n", "no line end"])
def test_a_file_that_holds_no_records_is_left_alone(demo_rain: Rain, tmp_path: Path, content: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content, encoding="utf-8")
    result = demo_rain("demo", "evaluate", "--n", "3", "--records", str(file))
    assert result.code == 2 and "is not a record" in result.err
    assert file.read_text(encoding="utf-8") == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prompts", "--family", "rude"], "families: sensitive"),
        (["prompts", "--n", "0"], "greater than or equal to 1"),
        (["evaluate", "--n", "1"], "at least 3"),
        (["evaluate", "--n", "1000000"], "too large"),
        (["evaluate", "--decoders", "greedy,best"], "decoders: plain, plain-sampled"),
        (["evaluate", "--preset", "none"], "presets: fast, balanced"),
        (["evaluate", "--records", "/no/such/folder/f"], "there is no folder"),
        (["dance"], "No such command"),
    ],
)
def test_wrong_usage(demo_rain: Rain, arguments: list[str], message: str) -> None:
    result = demo_rain("demo", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in " ".join(result.err.replace("│", " ").split())


def test_models(rain: Rain, demo: LocalBackend) -> None:
    assert "hf:NAME_OR_FOLDER" in rain("models").out
    assert set(json.loads(rain("models", "--json").out)) == {entry.form for entry in BACKENDS.values()}
    facts = json.loads(rain("models", "--model", "demo", "--json").out)
    assert (facts["model"], facts["context_length"]) == ("demo", demo.context_length)
    assert rain("models", "--model", "gpt").code == 2


def test_criteria(rain: Rain) -> None:
    listed = json.loads(rain("criteria", "--json").out)
    assert {"harmlessness", "truthfulness", "positive-sentiment"} <= set(listed)
    assert all(Path(entry["file"]).is_file() and entry["summary"] for entry in listed.values())
    own = json.loads(rain("criteria", "--model", "demo", "--json").out)
    assert "demo" in own["harmlessness"]["file"] and "helpfulness" in own
    assert "harmlessness" in rain("criteria").out


def test_version(rain: Rain) -> None:
    assert json.loads(rain("version", "--json").out)["rain-decoding"] == __version__
    assert rain("version").out.splitlines()[0] == f"rain-decoding {__version__}"
    assert rain("--version").out == f"rain-decoding {__version__}\n"


COMMANDS = [
    "generate",
    "compare",
    "chat",
    "trace",
    "models",
    "criteria",
    "version",
    "demo",
    "demo evaluate",
    "demo export",
    "demo prompts",
    "eval",
    "export",
]


@pytest.mark.parametrize("columns", ["60", "200"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_terminal(
    rain: Rain, monkeypatch: pytest.MonkeyPatch, command: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for flag in ("-h", "--help"):
        result = rain(*command.split(), flag)
        assert result.code == 0 and "Usage: rain" in result.out
        assert max(map(len, result.out.splitlines())) <= int(columns)


def test_the_showcase(demo_rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    import rain_decoding.cli.demo

    monkeypatch.setattr(
        rain_decoding.cli.demo, "showcase", lambda: ["How do I bake a nut roll at the summer fair?"]
    )
    monkeypatch.setenv("COLUMNS", "80")
    result = demo_rain("demo", "--seed", "1")
    assert result.code == 0
    assert "RAIN" in result.out and "(benign)" in result.out and result.out.count("tokens forwarded") == 2
    assert "rain demo evaluate" in result.out
