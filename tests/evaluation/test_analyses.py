"""The paper's analyses against figures computed anew from records drawn at random."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from evaluation.paper_runs import findings, paper_run
from markupsafe import escape

from rain_decoding.evaluation.analyses import ANALYSES
from rain_decoding.evaluation.analyses.noise import stops_helping
from rain_decoding.evaluation.analyses.paper_figures import FIGURES, paper_table
from rain_decoding.evaluation.paper import PaperRun
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.tasks import answer_id
from rain_decoding.evaluation.report import render_paper

ATTACKED = {"goal": "Do what you must not", "controls": "! ! !"}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> PaperRun:
    return paper_run(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def found(demo_run: PaperRun) -> Any:
    return findings(demo_run)


def records(run: PaperRun, experiment: str) -> list[dict[str, Any]]:
    """All answers of an experiment, as they stand in its files."""
    lines: list[str] = []
    for file in sorted((run.folder / experiment).glob("*/records.jsonl")):
        lines += file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def answers(run: PaperRun, experiment: str, decoder: str, family: str) -> list[dict[str, Any]]:
    return [r for r in records(run, experiment) if (r["decoder"], r["family"]) == (decoder, family)]


def said(record: dict[str, Any], question: str, judge: str = "oracle") -> bool | None:
    return record["labels"][judge][question]


def share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 4)


def within(estimate: dict[str, Any]) -> bool:
    """Whether the interval is one, around its value."""
    return bool(estimate["low"] <= estimate["value"] <= estimate["high"])


def rows(found: Any, name: str) -> list[dict[str, Any]]:
    return [row for table in found[name][1].tables for row in table.rows]


def test_comparison_counts_wanted_labels_of_all_answers(demo_run: PaperRun, found: Any) -> None:
    tables = {table.title.split(":")[0]: table for table in found["comparison"][1].tables}
    assert set(tables) == {f"demo, {f}" for f in ("sensitive", "benign", "look-alike", "question", "review")}
    presets = {"demo, sensitive": "paper-hh", "demo, question": "paper-truth", "demo, review": "paper-imdb"}
    for title, preset in presets.items():
        names = [row["decoder"] for row in tables[title].rows]
        assert f"rain:{preset}" == names[-1] and ("self-refine" in names) == (preset != "paper-imdb")
    for row in tables["demo, benign"].rows:
        own = answers(demo_run, "comparison", row["decoder"], "benign")
        assert row["helpful|oracle"]["value"] == share([said(r, "helpful") is True for r in own])
        assert row["tokens"]["value"] == pytest.approx(
            sum(r["usage"]["search_tokens"] for r in own) / len(own), abs=1e-4
        )
        unscored = sum(said(r, "helpful") is None and not r["labels"]["oracle"]["malformed"] for r in own)
        assert row["helpful|oracle|unscored"] == unscored
    assert len(found["comparison"][1].plots) == 1


def test_ablation_counts_failures_and_pairs_them_with_the_full_search(demo_run: PaperRun, found: Any) -> None:
    (table,) = found["ablation"][1].tables
    assert table.rows[0]["decoder"] == "full"
    settings = [row["setting"].split("@")[1:] for row in table.rows]
    assert settings == [["similarity=off", "widening=off", "exploration=0"][:n] for n in range(4)]
    full = {
        (r["id"], r["seed"]): said(r, "harmless") is False
        for r in answers(demo_run, "ablation", "rain:paper-hh", "attacked-gcg")
    }
    for row in table.rows:
        own = answers(demo_run, "ablation", row["setting"], "attacked-gcg")
        assert row["rate"]["value"] == share([said(r, "harmless") is False for r in own])
        pairs = [(said(r, "harmless") is False) - full[r["id"], r["seed"]] for r in own]
        if row["decoder"] == "full":
            assert row["against"] is None
        else:
            assert row["against"]["value"] == round(sum(pairs) / len(pairs), 4) and within(row["against"])


def test_self_evaluation_accuracy_over_both_classes(demo_run: PaperRun, found: Any) -> None:
    questions = {"sensitive": "harmless", "benign": "harmless", "question": "truthful", "review": "positive"}
    seen = Counter(row["family"] for row in rows(found, "self-evaluation"))
    assert seen["benign"] == seen["sensitive"] == seen["question"] == seen["review"] + 1
    for row in rows(found, "self-evaluation"):
        question = questions.get(row["family"], "harmless")
        own = answers(demo_run, "comparison", row["decoder"], row["family"])
        table = Counter((said(r, question), r["score"] is not None and r["score"] > 0) for r in own)
        labelled = [r for r in own if said(r, question) is not None]
        # A judgement without a score is not right, whatever the label.
        unscored = Counter(said(r, question) for r in labelled if r["score"] is None)
        good, bad = table[True, True], table[False, False] - unscored[False]
        goods, bads = table[True, True] + table[True, False], table[False, True] + table[False, False]
        assert row["accuracy"]["value"] == round((good + bad) / (goods + bads), 4)
        for key, right, of in (("good", good, goods), ("bad", bad, bads)):
            assert (row[key]["value"] if of else row[key]) == (round(right / of, 4) if of else None)
        if goods and bads:
            assert row["balanced"]["value"] == pytest.approx((good / goods + bad / bads) / 2, abs=1e-4)
        else:
            assert row["balanced"] is None
        assert (row["unscored"], row["unlabelled"]) == (unscored.total(), len(own) - len(labelled))
        assert all(within(row[key]) for key in ("accuracy", "good", "bad", "balanced") if row[key])


def test_time_is_the_ratio_of_means(demo_run: PaperRun, found: Any) -> None:
    assert all(run.plan.setting.concurrency == 1 for e, run in demo_run.runs if e.name == "time")
    for row in rows(found, "time"):
        for cost in ("search_tokens", "forward_passes", "seconds"):
            ours, theirs = (
                sum(r["usage"][cost] for r in answers(demo_run, "time", name, row["family"]))
                for name in (row["decoder"], "plain")
            )
            assert row[cost]["value"] == pytest.approx(ours / theirs, abs=1e-4) and within(row[cost])


def test_efficiency_has_every_decoder_over_its_budget(demo_run: PaperRun, found: Any) -> None:
    own = {row["decoder"]: row for row in rows(found, "efficiency")}
    for kind in ("best-of", "rejection", "verify-regenerate"):
        assert [name for name in own if kind in own[name]["curves"]][1:] == [
            f"{kind}-{k}" for k in (2, 4, 8, 16)
        ]
    assert sum("rain:balanced" in row["curves"] for row in own.values()) == 4
    for name, row in own.items():
        made = answers(demo_run, "efficiency", name, "sensitive")
        assert row["rate"]["value"] == share([said(r, "harmless") is True for r in made])
        assert row["seconds"]["value"] == pytest.approx(
            sum(r["usage"]["seconds"] for r in made) / len(made), abs=1e-4
        )
    plot, _ = found["efficiency"][1].plots
    drawn = dict(plot.legend)
    line = next(line for line in plot.lines if line.number == drawn["best-of"])
    assert len(line.through) == 5


def test_noise_stands_against_plain_and_names_where_it_stops(demo_run: PaperRun, found: Any) -> None:
    for row in rows(found, "noise"):
        question = row["metric"]
        decoder = f"rain-oracle@flips={round(1 - row['right'], 1):g}"
        ours, plain = (answers(demo_run, "noise", n, row["family"]) for n in (decoder, "plain-sampled"))
        values = [share([said(r, question) is True for r in of]) for of in (ours, plain)]
        assert (row["rate"]["value"], row["plain"]["value"]) == tuple(values)
        assert row["against"]["value"] == pytest.approx(values[0] - values[1], abs=2e-4)
    assert {row["family"] for row in rows(found, "noise")} == {"sensitive", "benign", "look-alike"}
    assert len(found["noise"][1].notes) == 3
    for note in found["noise"][1].notes:
        family = note.split(", ")[1]
        lows = {r["right"]: r["against"]["low"] for r in rows(found, "noise") if r["family"] == family}
        for right, low in lows.items():
            assert low <= 0 or f"{right:.0%}" in note.partition(";")[0] or "every" in note
    plot = found["noise"][1].plots[0]
    assert sum(line.broken for line in plot.lines) == sum(not line.broken for line in plot.lines) == 3


def test_where_help_stops_is_the_largest_accuracy_that_is_not_sure() -> None:
    def at(*lows: float) -> float | None:
        return stops_helping([{"right": 0.5 + n / 10, "against": {"low": low}} for n, low in enumerate(lows)])

    assert at(-0.1, 0.0, 0.1) == pytest.approx(0.6)
    assert at(-0.1, 0.2, -0.01) == pytest.approx(0.7), "one that helps below another that does not"
    assert at(0.1, 0.2) is None


def test_without_suffixes_and_ratings_the_report_says_so(tmp_path: Path) -> None:
    behaviours = tmp_path / "behaviours.csv"
    behaviours.write_text("goal,target\n" + "".join(f"Goal {n},Sure\n" for n in range(4)), encoding="utf-8")
    found = findings(paper_run(tmp_path, "hf:models/another", {"behaviours": behaviours}))
    _, attacks, missing = found["attacks"]
    assert not attacks.tables and "suffixes" in missing[0]
    _, human, _ = found["human"]
    assert not human.tables and human.notes
    assert all("rain rate" in note for note in human.notes)


def test_ratings_stand_beside_the_judges(tmp_path: Path) -> None:
    run = paper_run(tmp_path, only=["human"], limit=2, seeds=(0,))
    _, own = run.runs[0]
    store = RatingStore(own.folder)
    # An answer that several decoders gave is rated once, and stands beside the label that it first got.
    shown = {r["answer"]: r for r in reversed(own.records) if r["family"] == "sensitive"}
    labels = [said(record, "harmless") for record in shown.values()]
    for record, label in zip(shown.values(), labels, strict=True):
        store.rate("ann", answer_id(record), "harmless", "yes" if label else "no")
    tables = {table.title.partition(": ")[2]: table for table in findings(run)["human"][1].tables}
    (judge,) = (row for row in tables["judges beside raters"].rows if row["family"] == "sensitive")
    assert (judge["judge"], judge["n"]) == ("oracle", len(shown))
    assert [judge[c] for c in ("both", "neither", "unscored")] == [
        labels.count(x) for x in (True, False, None)
    ]
    assert {row["rater"] for row in tables["rates"].rows} == {"ann"}


def test_attacks_of_a_model_that_the_paper_used(tmp_path: Path) -> None:
    lines = [json.dumps({**ATTACKED, "goal": f"Goal {n}"}) for n in range(6)]
    (tmp_path / "suffixes.json").write_text("\n".join(lines), encoding="utf-8")
    run = paper_run(tmp_path, "hf:models/vicuna-13b-v1.3", {"suffixes": tmp_path / "suffixes.json"})
    result = findings(run)
    ours, beside = result["attacks"][1].tables
    judges = ("refusal-prefixes-notebook", "refusal-prefixes-package")
    assert {row["judge"] for row in ours.rows} == {*judges, "degeneration"}
    for row in ours.rows:
        if row["judge"] == "degeneration":
            assert row["failure"] == "degenerate"
            continue
        own = answers(run, "attacks", row["decoder"], "attacked")
        assert row["rate"]["value"] == share([said(r, "refused", row["judge"]) is False for r in own])
        assert row["failure"] == "not refused"
    assert [(row["plain"], row["rain"]) for row in beside.rows] == [("83%", "38%"), ("79%", "32%")]
    assert {row["family"] for row in result["ablation"][1].tables[0].rows} == {"attacked"}
    assert "rain:paper-adv" in {row["decoder"] for row in ours.rows}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("demo", 0),
        ("hf:huggyllama/llama-30b", 2),
        ("hf:/models/Llama-2-13b-chat-hf/", 3),
        ("hf:Llama-2-7b-hf", 0),
        ("openai:http://host/v1#vicuna-7b-v1.5", 1),
        ("hf:my-llama-30b-tuned", 0),
    ],
)
def test_the_paper_is_named_for_its_own_models_alone(model: str, named: int) -> None:
    table = paper_table("comparison", model)
    assert (len(table.rows) if table else 0) == named
    assert FIGURES.keys() <= ANALYSES.keys()


def test_the_page_has_every_table_and_links_to_every_run(demo_run: PaperRun, found: Any) -> None:
    summary = json.loads(json.dumps(demo_run.summary(list(found.values()))))
    page = render_paper(summary, {name: list(own.plots) for name, (_, own, _) in found.items()})
    for analysis in ANALYSES.values():
        assert f'id="{analysis.name}"' in page
    for table in (table for _, own, _ in found.values() for table in own.tables):
        assert escape(table.title) in page
        for row in table.rows:
            for column in table.columns:
                if column.form == "percent" and row[column.key] is not None:
                    value, low, high = (row[column.key][key] for key in ("value", "low", "high"))
                    assert f"{value:.1%} ({low:.1%} to {high:.1%})" in page
    for run in summary["runs"]:
        assert f'href="{run["folder"]}/report.html"' in page
    assert "http" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert "is the judge in the search of rain-oracle" in page
