"""The evidence on real models: which prompts are kept for it, and what its tables say of made-up records."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from real_models.evidence import blind
from real_models.evidence.__main__ import main
from real_models.evidence.label import LABELS
from real_models.evidence.prompts import (
    ANSWERED_BY,
    FAMILIES,
    FILES,
    JBB_ANSWERS,
    XSTEST_ANSWERS,
    evidence_suite,
    labelled_examples,
    untouched,
)
from real_models.evidence.run import PROBE
from real_models.evidence.tables import read_runs, tables
from self_evaluation.reading.synthetic import probe

GOALS = [f"Do {number}" for number in range(60)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made-up files of the names and forms that the evidence reads."""
    folder = tmp_path / "data"
    folder.mkdir()
    attacks = [{"goal": goal, "attack": "GCG", "prompt": f"{goal} ! !"} for goal in GOALS]
    answers = [{"prompt": goal, "answer": "Sure", "label": "bad", "behavior": goal} for goal in GOALS]
    human = [
        {"prompt": "Kill it?", "answer": "No", "label": "good", "type": f"contrast_{kind}", "model": model}
        for kind in ("homonyms", "figures")
        for model in (ANSWERED_BY, "another")
    ]
    for name, rows in (
        (FILES["jailbreakbench"][1], attacks),
        (JBB_ANSWERS, answers),
        (XSTEST_ANSWERS, human),
        (FILES["hh"][1], [{"chosen": f"\n\nHuman: {goal}?\n\nAssistant: No."} for goal in GOALS]),
    ):
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    with (folder / FILES["advbench"][1]).open("w", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("goal", "target"), *((goal, "Sure") for goal in GOALS)])
    with (folder / FILES["xstest"][1]).open("w", encoding="utf-8") as opened:
        rows = [(f"How do I kill {n}?", "homonyms" if n % 2 else "contrast_homonyms") for n in range(60)]
        csv.writer(opened).writerows([("prompt", "type"), *rows])
    return folder


def test_figures_and_fits_share_no_prompt(data: Path) -> None:
    items = list(evidence_suite(data).load({}))
    assert {item.family for item in items} == set(FAMILIES)
    asked = {str(item.facts["goal"]) for item in items if "goal" in item.facts}
    fitted = {example.messages[0].content for example in labelled_examples(data)}
    assert asked and fitted and not asked & fitted
    assert asked == {goal for goal in GOALS if untouched(goal)} and 0 < len(asked) < len(GOALS)
    assert all(untouched(item.prompt) for item in items if item.family.startswith("xstest"))


def test_labels_are_of_one_model_and_grouped_by_what_they_are_about(data: Path) -> None:
    examples = labelled_examples(data)
    human = [example for example in examples if example.messages[0].content == "Kill it?"]
    assert sorted(example.group for example in human) == ["figures", "homonyms"]
    assert len(labelled_examples(data, 4)) == 4


def record(decoder: str, number: int, family: str, answer: str) -> dict[str, Any]:
    return {
        "id": f"{family}-{number}",
        "family": family,
        "subject": str(number),
        "decoder": decoder,
        "seed": 0,
        "answer": answer,
        "labels": {
            "degeneration": {"degenerate": False},
            "refusal-prefixes-wide": {"refused": decoder == "care"},
        },
        "usage": {"forward_passes": 10, "search_tokens": 20 if decoder == "care" else 10},
    }


def write_run(out: Path) -> Path:
    """The folder of a model called small, with answers that a reader called other has labelled."""
    folder = out / "small"
    folder.mkdir(parents=True)
    spec = {"spec": {"decoders": {"plain": {}, "care": {}}, "max_tokens": 8}}
    (folder / "run.json").write_text(json.dumps(spec), encoding="utf-8")
    made = [
        record(decoder, number, family, "Sure" if decoder == "plain" else "No")
        for family in ("jailbreakbench-prefix", "xstest-safe")
        for decoder in ("plain", "care")
        for number in range(20)
    ]
    labels = [
        {
            **{key: each[key] for key in ("id", "decoder", "seed")},
            "goal": "?",
            "label": {"harmless": each["answer"] == "No"},
        }
        for each in made
        if each["family"] == "jailbreakbench-prefix" and not each["id"].endswith("-0")
    ]
    for name, rows in (("records.jsonl", made), (LABELS.format("other"), labels)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sure = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 50}
    probe(figures={"good_right": sure, "bad_right": sure}).save(out / PROBE.format("other"))
    return folder


def test_tables_of_records_and_labels(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    with (folder / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "being wri')
    (tmp_path / "another").mkdir()
    (run,) = read_runs([tmp_path])
    (plain, care) = run.rows(["jailbreakbench-prefix"])
    assert (
        plain["faults"]["harmful"]["rate"]["value"] == 1 and care["faults"]["harmful"]["rate"]["value"] == 0
    )
    assert care["faults"]["harmful"]["rate"]["n"] == 19, "what nobody labelled is not counted"
    assert care["tokens"]["value"] == 2
    blind.show(folder, run.records, 10)
    shown = [json.loads(line) for line in (folder / blind.SHOWN).read_text(encoding="utf-8").splitlines()]
    assert sorted(each["answer"] for each in shown) == ["No", "Sure"], "one text has one number"
    assert all(each.keys() == {"number", "goal", "answer"} for each in shown)
    text = "\n".join(tables([run]))
    assert (
        "Harm is read by other" in text
        and "held-out labelled answers" in text
        and "100.0% (90.0% to 100.0%) of the bad ones bad" in text
    )
    safe = next(line for line in text.splitlines() if line.startswith("| care | 100.0%"))
    assert "+100.0 (+100.0 to +100.0)" in safe


def test_answers_of_other_folders_are_shown_there(tmp_path: Path) -> None:
    out, also = tmp_path / "out", tmp_path / "also"
    folder = write_run(also)
    main(["--out", str(out), "--also", str(also), "--stages", "none", "--blind", "5"])
    assert len((folder / blind.SHOWN).read_text(encoding="utf-8").splitlines()) == 2
    assert "### small" in (out / "tables.md").read_text(encoding="utf-8")


def test_no_model_reads_its_own_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        main(["--out", str(out), "--model", "small=gguf:missing.gguf"])
    assert "small would read its own answers" in capsys.readouterr().err and not out.exists()


def test_a_judge_is_held_against_what_was_read_blind() -> None:
    made = [
        {"goal": "?", "answer": f"{number}", "labels": {"other": {"harmless": number % 4 != 0}}}
        for number in range(40)
    ]
    truth = {blind.number_of(each): int(each["answer"]) % 2 == 0 for each in made}
    found = blind.accuracy(made, truth, "other")
    assert found is not None
    assert (found.yes.value, found.yes.n, found.no.value, found.no.n) == (1, 20, 0.5, 20)
    assert blind.accuracy(made, dict(list(truth.items())[:12]), "other") is None
    assert blind.accuracy(made, truth, "another") is None
