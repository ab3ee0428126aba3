"""A run as preference data: the columns that TRL documents, with the right answers in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import BAD, DECODERS, GOOD, made_up_run, record, write_run

from rain_decoding import InputError
from rain_decoding.evaluation.export import FORMATS, examples, open_run

COLUMNS = {
    "dpo": {"prompt", "chosen", "rejected"},
    "sft": {"prompt", "completion"},
    "kto": {"prompt", "completion", "label"},
    "stepwise": {"prompt", "completions", "labels"},
}
"""Of TRL's dataset types: preference, prompt-completion, unpaired preference, stepwise supervision."""


def exported(folder: Path, form: str) -> list[dict[str, Any]]:
    return list(examples(open_run(folder), form))


@pytest.mark.parametrize("form", FORMATS)
def test_columns_and_types(tmp_path: Path, form: str) -> None:
    for asked in ("chat", "dialogue", "text"):
        found = exported(made_up_run(tmp_path / asked, asked), form)
        assert found and all(example.keys() == COLUMNS[form] for example in found)
        for example in found:
            for column in COLUMNS[form] & {"prompt", "chosen", "rejected", "completion"}:
                value = example[column]
                if asked == "chat" and form != "stepwise":
                    assert [m["role"] for m in value] == ["user" if column == "prompt" else "assistant"]
                else:
                    assert isinstance(value, str)


def test_the_search_is_chosen_and_plain_decoding_rejected(tmp_path: Path) -> None:
    texts = exported(made_up_run(tmp_path / "dialogue"), "dpo")
    assert len(texts) == 4
    assert texts[0] == {
        "prompt": "Human: How do I open lock 0?\n\nAssistant:",
        "chosen": f" {GOOD}",
        "rejected": f" {BAD}",
    }
    (first, *_) = exported(made_up_run(tmp_path / "chat", "chat"), "dpo")
    assert first["chosen"] == [{"role": "assistant", "content": GOOD}]
    (first, *_) = exported(made_up_run(tmp_path / "text", "text"), "kto")
    assert first == {"prompt": "How do I open lock 0?", "completion": GOOD, "label": True}


def test_two_decoders_are_needed_to_prefer_one(tmp_path: Path) -> None:
    source = open_run(made_up_run(tmp_path / "run"), "plain", "plain")
    with pytest.raises(InputError, match="the chosen and the rejected decoder are both plain"):
        list(examples(source, "dpo"))


def test_what_teaches_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    ours, plain = "rain:balanced", "plain"
    write_run(
        tmp_path / "run",
        [
            *(record(name, 0) for name in DECODERS),
            *(record(name, 0, seed=1) for name in DECODERS),
            *(record(name, 1, answer=GOOD) for name in DECODERS),
            *(record(name, 2, score=-1.0) for name in DECODERS),
            record(plain, 3),
            record(ours, 3, finish_reason="unjudged", answer="", score=None),
            record(plain, 4, score=None),
            record(ours, 4),
        ],
    )
    source = open_run(tmp_path / "run")
    assert len(list(examples(source, "dpo"))) == 1
    assert source.dropped == {
        "duplicates": 1,
        "with the same answer by both": 1,
        "without an answer by plain": 1,
        "not preferred by the search's judge": 1,
        "unfinished or empty": 1,
        "not scored by the search's judge": 1,
    }
    assert [e["label"] for e in exported(tmp_path / "run", "kto")].count(False) == 5
    assert len(exported(tmp_path / "run", "sft")) == 3


def test_steps_are_token_sets_with_what_was_judged_below_them(tmp_path: Path) -> None:
    found = exported(made_up_run(tmp_path / "run", prompts=1), "stepwise")
    steps = [(example["completions"], example["labels"]) for example in found]
    assert steps == [
        ([" I would", " rather not."], [True, True]),
        ([" Take", " a hairpin."], [False, False]),
    ] or steps == [
        ([" Take", " a hairpin."], [False, False]),
        ([" I would", " rather not."], [True, True]),
    ]


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no run"):
        open_run(tmp_path)
    folder = made_up_run(tmp_path / "run")
    with pytest.raises(InputError, match="no decoder best-of-2"):
        open_run(folder, "best-of-2")
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    untraced = [json.dumps({**json.loads(line), "trace": None}) + "\n" for line in lines]
    (folder / "records.jsonl").write_text("".join(untraced), encoding="utf-8")
    with pytest.raises(InputError, match="--traces"):
        exported(folder, "stepwise")
