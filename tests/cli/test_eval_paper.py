"""`rain eval paper` as a command: what it leaves, going on after a crash, and what it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain, start

from rain_decoding.demo import MODEL_DIR

SMALL = ["--only", "noise", "--limit", "1", "--max-tokens", "12"]
ALONE = ["--concurrency", "1", "--workers", "1"]
TOTAL = 24
"""A prompt of each of three families by eight decoders."""


def told(folder: Path) -> dict[str, Any]:
    """The summary without what a run may differ in: how it was called."""
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    del found["arguments"]
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    """The answers of all parts."""
    lines: list[str] = []
    for file in sorted(folder.glob("*/*/records.jsonl")):
        lines += file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.usefixtures("demo_backend")  # torch runs on one thread
def test_a_run_that_was_killed_goes_on_to_the_same_summary(rain: Rain, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with start("eval", "paper", "--out", killed, *SMALL, *ALONE) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert f"of {TOTAL} answers" in said[-1], said
    assert 7 <= len(records(killed)) < TOTAL and not (killed / "summary.json").exists()
    for folder in (killed, whole):
        assert rain("eval", "paper", "--out", folder, *SMALL, *ALONE).code == 0
    found = [(r["id"], r["decoder"], r["seed"]) for r in records(killed)]
    assert len(set(found)) == len(found) == TOTAL
    assert told(killed) == told(whole)
    assert "report.html" in {path.name for path in killed.iterdir()}


def test_answers_that_another_part_has_are_not_made_again(
    demo_rain: Rain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rain_decoding.evaluation import runner

    made: list[tuple[str, str]] = []
    real = runner.answer

    def answer(job: Any, cancelled: Any = None) -> Any:
        made.extend((sample.id, job.decoder) for sample in job.items)
        yield from real(job, cancelled)

    monkeypatch.setattr(runner, "answer", answer)
    monkeypatch.setattr("rain_decoding.evaluation.analyses.comparison.BASELINES", ("plain",))
    monkeypatch.setattr("rain_decoding.evaluation.analyses.comparison.OURS", ("rain:fast",))
    options = ["--limit", "1", "--max-tokens", "8", "--workers", "1", "--concurrency", "4", "--json"]
    result = demo_rain(
        "eval", "paper", "--only", "comparison,ablation,human,attacks", "--out", tmp_path / "run", *options
    )
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert [analysis["name"] for analysis in summary["analyses"]] == [
        "comparison",
        "ablation",
        "human",
        "attacks",
    ]
    folders = {run["folder"]: run["answers"] for run in summary["runs"]}
    # plain, self-refine, rain:fast and the paper's; the last is the first of the ablation, which both attack.
    assert folders["comparison/demo-harmlessness"] == 12 and folders["ablation/demo-harmlessness"] == 4
    assert folders["comparison/demo-positive-sentiment"] == 3
    assert folders["attacks/demo-harmlessness"] >= 16
    assert len(made) == len(set(made)) == summary["answers"] - 1
    for name in folders:
        assert {"run.json", "summary.json", "report.html"} <= {
            path.name for path in (tmp_path / "run" / name).iterdir()
        }
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert 'href="comparison/demo-harmlessness/report.html"' in page
    tables = demo_rain("eval", "paper", "--only", "ablation", "--out", tmp_path / "run", *options[:-1])
    assert tables.code == 0 and "without similarity update" in tables.out and len(made) == len(set(made))


def test_another_model_of_the_demo_world_is_asked_the_worlds_prompts(demo_rain: Rain, tmp_path: Path) -> None:
    options = ["--model", f"hf:{MODEL_DIR}", "--data", "demo", "--only", "ablation", "--limit", "1"]
    result = demo_rain("eval", "paper", *options, "--max-tokens", "4", "--out", tmp_path / "run", "--json")
    assert result.code == 0, result.err
    assert [run["folder"] for run in json.loads(result.out)["runs"]] == ["ablation/demo-harmlessness"]
    assert {record["family"] for record in records(tmp_path / "run")} == {"attacked-gcg"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "noise,nonsense"], "analyses: comparison, ablation, efficiency"),
        (["--decoders", "plain"], "paper does not accept --decoders"),
        (["--traces", "--families", "benign"], "paper does not accept --families or --traces"),
        (["--model", "hf:/models/mine"], "there are no prompts"),
        (["--data", "reviews=README.md"], "--data reviews is unknown"),
        (["--data", "README.md"], "--data NAME=FILE"),
        (["--model", "hf:m", "--data", "harmless=/no/such"], "there is no file '/no/such'"),
        (["--judge", "my-aunt"], "unknown judge 'my-aunt'"),
        (["--judge", "refusal-prefixes-package"], "no judge labels what is harmless"),
    ],
)
def test_wrong_usage_costs_no_loading(rain: Rain, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = rain("eval", "paper", *arguments, "--out", tmp_path / "run")
    assert result.code == 2 and message in " ".join(result.err.split())
    assert not (tmp_path / "run").exists()


def test_only_chooses_analyses_of_the_paper_alone(rain: Rain, tmp_path: Path) -> None:
    result = rain("eval", "demo", "--only", "noise", "--out", tmp_path / "run")
    assert result.code == 2 and "--only selects analyses of paper" in result.err


def test_a_folder_of_something_else_stays_as_it_is(rain: Rain, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    result = rain("eval", "paper", "--out", tmp_path / "run")
    assert result.code == 2 and "contains none of the paper's analyses" in " ".join(result.err.split())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
