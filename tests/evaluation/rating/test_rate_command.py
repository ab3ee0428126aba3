"""`rain rate` as a command: the report, and what it refuses."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from cli.command import Rain, runner
from evaluation.rating.rated import answers, ratings, write_compared

from rain_decoding.evaluation.rating.agreement import rating_rows
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_compared(tmp_path / "run")


@pytest.fixture
def rated(folder: Path) -> Path:
    store = RatingStore(folder)
    for (rater, task, question), value in ratings(open_study(folder), seed=0).items():
        store.rate(rater, task, question, value)
    return folder


def test_the_report_is_what_the_ratings_say(rain: Rain, rated: Path) -> None:
    study = open_study(rated)
    printed = rain("rate", rated, "--report", "--json")
    assert printed.code == 0 and printed.err == ""
    assert json.loads(printed.out) == rating_rows(study, ratings(study, seed=0))


def test_the_tables_show_every_figure(rain: Rain, rated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rain_decoding.cli.output.out.width", 200)
    study = open_study(rated)
    rows = rating_rows(study, ratings(study, seed=0))
    result = rain("rate", rated, "--report")
    assert result.code == 0 and "majority: a tie counts as not having the label" in result.out
    lines = [[cell.strip() for cell in line.split("│")] for line in result.out.splitlines()]
    shown = [" ".join(cells) for cells in lines]

    def line_with(*parts: str) -> bool:
        return any(all(part in line for part in parts) for line in shown)

    for row in rows["rates"]:
        assert line_with(row["rater"], row["decoder"], f"{row['value']:.1%} ({row['low']:.1%} to")
    for row in rows["preferences"]:
        assert line_with(row["rater"], row["decoder"], f"{row['wins']} / {row['losses']} / {row['ties']}")
    for row in rows["raters"]:
        value = "-" if row["value"] is None else f"{row['value']:.2f}"
        assert line_with(row["rated"], row["raters"], f"{row['measure']} {value}", f"n {row['n']}")
    for row in rows["judges"]:
        assert line_with(row["rater"], row["judge"], f"{row['both']} / {row['rater_only']} / ")
    assert rows["pair_judges"]
    for row in rows["pair_judges"]:
        assert line_with(row["rater"], row["judge"], row["family"], f" of {row['n']}")


def test_the_report_takes_choices(rain: Rain, rated: Path) -> None:
    options = ["--decoders", "plain,best-of-16", "--families", "benign", "--questions", "helpful"]
    rows = json.loads(rain("rate", rated, "--report", "--json", *options).out)
    facts = {(row["decoder"], row["family"], row["metric"]) for row in rows["rates"]}
    assert facts == {("plain", "benign", "helpful"), ("best-of-16", "benign", "helpful")}


def test_a_line_that_was_cut_off_is_no_rating(rain: Rain, rated: Path) -> None:
    whole = json.loads(rain("rate", rated, "--report", "--json").out)
    with (rated / "ratings.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"rater": "another", "task": "0')
    assert json.loads(rain("rate", rated, "--report", "--json").out) == whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--report"], "none of the selected answers has been rated"),
        (["--json"], "--json needs --report"),
        (["--decoders", "plain,rain"], "no decoder 'rain'"),
        (["--pairwise", "--decoders", "plain"], "no answer differs from the one of plain"),
        (["--rater", "majority", "--no-browser"], "'majority' cannot be a rater's name"),
        (["--port", "-1"], "--port"),
    ],
)
def test_what_cannot_be_done_is_said(rain: Rain, folder: Path, options: list[str], said: str) -> None:
    result = rain("rate", folder, *options)
    assert result.code == 2 and said in result.err and result.out == ""


def test_a_folder_without_a_run_is_refused(rain: Rain, tmp_path: Path) -> None:
    result = rain("rate", tmp_path)
    assert result.code == 2 and "contains no run of rain eval" in result.err


@pytest.mark.parametrize("spec", [{}, {"suite": "demo"}, {"suite": "demo", "families": [], "decoders": 3}])
def test_a_broken_description_of_a_run_is_refused(rain: Rain, folder: Path, spec: object) -> None:
    (folder / "run.json").write_text(json.dumps({"spec": spec}), encoding="utf-8")
    result = rain("rate", folder)
    assert result.code == 2 and "use the --out folder of a rain eval" in result.err


def test_records_without_a_prompt_are_refused_with_their_line(rain: Rain, folder: Path) -> None:
    record = answers()[0]
    del record["prompt"]
    with (folder / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    result = rain("rate", folder)
    assert result.code == 2 and f"line {len(answers()) + 1} is not a record" in result.err


def test_a_port_that_is_taken_is_said(rain: Rain, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = rain("rate", folder, "--no-browser", "--port", str(port))
    assert result.code == 2 and f"cannot listen on 127.0.0.1, port {port}" in result.err
