"""Labelled answers and pairs, read from files of every form, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rain_decoding import InputError, Message
from rain_decoding.calibration import LabelledAnswer, read_labelled
from rain_decoding.calibration.labelled import LABELS, check_labels
from rain_decoding.self_evaluation.criterion import load_criterion

USER = (Message("user", "Hello?"),)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("label", "verdict"), [*LABELS.items(), (True, "positive"), (0, "negative"), ("Good", "positive")]
)
def test_labels(label: Any, verdict: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"prompt": "Hello?", "answer": "Ну?", "label": label})
    assert read_labelled(file) == [LabelledAnswer(USER, "Ну?", verdict, 1)]  # type: ignore[arg-type]


def test_a_conversation_and_a_pair_and_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    rows = [
        {"messages": messages, "answer": "", "label": "bad"},
        {"prompt": "Hello?", "chosen": "Yes.", "rejected": "No."},
    ]
    file.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    assert read_labelled(file) == [
        LabelledAnswer((Message("system", "Be kind."), *USER), "", "negative", 1),
        LabelledAnswer(USER, "Yes.", "positive", 3),
        LabelledAnswer(USER, "No.", "negative", 3),
    ]


def test_transcripts_as_in_hh(tmp_path: Path) -> None:
    shared = "\n\nHuman: Hello?\n\nAssistant: Yes?\n\nHuman: One thing.\n\nHuman: How old\n\nare you?"
    row = {
        "chosen": f"{shared}\n\nAssistant: Two.\n\nAssistant: Three.",
        "rejected": f"{shared}\n\nAssistant: ",
    }
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(row).encode()))
    prompt = (*USER, Message("assistant", "Yes?"), Message("user", "One thing.\n\nHow old\n\nare you?"))
    assert read_labelled(file) == [
        LabelledAnswer(prompt, "Two.\n\nThree.", "positive", 1),
        LabelledAnswer(prompt, "", "negative", 1),
    ]


GOOD = {"prompt": "Hello?", "answer": "Yes.", "label": "good"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([1], "not a JSON object"),
        ({**GOOD, "label": "maybe"}, "label = 'maybe'"),
        ({**GOOD, "label": None}, "label = None"),
        ({"prompt": "Hello?", "answer": "Yes."}, "there is no label"),
        ({**GOOD, "answer": 3}, "answer = 3"),
        ({"answer": "Yes.", "label": "good"}, 'either "prompt" or "messages"'),
        ({**GOOD, "messages": []}, 'either "prompt" or "messages"'),
        ({**GOOD, "prompt": " "}, "the prompt is empty"),
        (
            {"messages": [{"role": "assistant", "content": "a"}], "answer": "", "label": 1},
            "comes from the assistant",
        ),
        ({"prompt": "Hello?", "chosen": "Yes."}, "rejected = None"),
        ({"chosen": "Yes.", "rejected": "No."}, "chosen is not a transcript"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a"},
            "rejected is not a transcript",
        ),
    ],
)
def test_a_broken_line_is_named(row: Any, problem: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", GOOD, row, GOOD)
    with pytest.raises(InputError) as error:
        read_labelled(file)
    assert f"{file}, line 2: " in str(error.value) and problem in str(error.value)


def test_broken_json_and_broken_files(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "a"\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 1: not valid JSON"):
        read_labelled(file)
    for name, content in (
        ("b.jsonl", b"\xff"),
        ("c.jsonl.gz", b"plain"),
        ("d.jsonl.gz", gzip.compress(b"{}" * 99)[:-9]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_labelled(tmp_path / name)
    with pytest.raises(InputError, match="missing"):
        read_labelled(tmp_path / "missing.jsonl")


def test_n_lines_are_drawn_evenly_and_stay_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": "Hello?", "chosen": str(i), "rejected": "-"} for i in range(20)]
    file = write(tmp_path / "a.jsonl", *rows)
    counts = dict.fromkeys(range(1, 21), 0)
    for seed in range(400):
        drawn = read_labelled(file, 5, seed=seed)
        groups = [answer.group for answer in drawn]
        assert groups == sorted(groups) and len(drawn) == 10 and len(set(groups)) == 5
        for group in set(groups):
            counts[group] += 1
    # Binomial with p = 1/4: 100 of 400, standard deviation 8.7.
    assert all(65 < count < 135 for count in counts.values())
    assert read_labelled(file, 5, seed=3) == read_labelled(file, 5, seed=3)
    assert len(read_labelled(file, 50)) == 40


def test_labels_that_do_not_serve(tmp_path: Path) -> None:
    criterion = load_criterion("harmlessness")
    good, bad, neutral = (
        LabelledAnswer(USER, "a", label, 0) for label in ("positive", "negative", "neutral")
    )  # type: ignore[arg-type]
    check_labels(criterion, [good, bad])
    with pytest.raises(InputError, match="labelled positive"):
        check_labels(criterion, [good])
    with pytest.raises(InputError, match="no neutral statement"):
        check_labels(criterion, [good, bad, neutral])
    check_labels(load_criterion("positive-sentiment"), [good, bad, neutral])


CSV = 'prompt,answer,label,note\n"A, or B?","B.\nSurely.",good,x\nA?,No.,0,\n,,,\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", CSV), ("a.tsv", 'prompt\tanswer\tlabel\nA, or B?\t"B.\nSurely."\tgood\nA?\tNo.\t0\n')],
)
def test_a_table_is_read_as_lines_of_json_are(tmp_path: Path, name: str, text: str) -> None:
    lines = tmp_path / "same.jsonl"
    rows = [
        {"prompt": "A, or B?", "answer": "B.\nSurely.", "label": "good"},
        {"prompt": "A?", "answer": "No.", "label": 0},
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    with gzip.open(tmp_path / f"{name}.gz", "wt", encoding="utf-8") as file:
        file.write(text)

    def known(path: Path) -> list[tuple[object, ...]]:
        return [(found.messages, found.answer, found.label) for found in read_labelled(path)]

    assert known(tmp_path / name) == known(tmp_path / f"{name}.gz") == known(lines)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("question,better,worse\nA?,Yes.,No.\n")
    good, bad = read_labelled(Path(f"{file}#prompt=question&chosen=better&rejected=worse"))
    assert (good.answer, good.label, bad.answer, bad.label) == ("Yes.", "positive", "No.", "negative")
    with pytest.raises(InputError, match="no column 'beter' .did you mean 'better'"):
        read_labelled(Path(f"{file}#prompt=question&chosen=beter"))
    with pytest.raises(InputError, match="unknown 'promt'"):
        read_labelled(Path(f"{file}#promt=question"))


def test_keys_of_json_may_have_other_names(tmp_path: Path) -> None:
    pair = {"question": "A?", "better": "Yes.", "worse": "No.", "prompt": "Not this."}
    one = {"question": "A?", "chosen": "Yes.", "label": 1}
    pairs, lines = write(tmp_path / "pairs.jsonl", pair), write(tmp_path / "lines.jsonl", one)
    good, bad = read_labelled(Path(f"{pairs}#prompt=question&chosen=better&rejected=worse"))
    assert (good.messages, good.answer, bad.answer) == ((Message("user", "A?"),), "Yes.", "No.")
    (answer,) = read_labelled(Path(f"{lines}#prompt=question&answer=chosen"))
    assert (answer.messages, answer.answer, answer.label) == (good.messages, "Yes.", "positive")
    with pytest.raises(InputError, match="pairs.jsonl, line 1: there is no 'beter' .did you mean 'better'"):
        read_labelled(Path(f"{pairs}#prompt=question&chosen=beter"))


def test_a_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,answer,label\nA?,Yes.,good\nA?,Yes.,perhaps\n")
    with pytest.raises(InputError, match="a.csv, line 3: label = 'perhaps'"):
        read_labelled(file)
    file.write_text("prompt,answer\nA?,Yes.\n")
    with pytest.raises(
        InputError, match=r"a.csv has no column 'label' .columns: prompt, answer; .*#label=COLUMN"
    ):
        read_labelled(file)


@pytest.mark.parametrize(
    ("header", "named", "said"),
    [
        ("prompt,anser,label", "", r"'answer' .did you mean 'anser'.*a.csv#answer=COLUMN"),
        ("chosen,worse", "", r"'rejected' .*a.csv#rejected=COLUMN"),
        ("prompt,answer,label", "#label=answer", r"'answer' .*a.csv#answer=COLUMN"),
    ],
)
def test_a_table_without_a_column_says_how_to_name_another(
    tmp_path: Path, header: str, named: str, said: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"{header}\nA?,Yes.,good\n")
    with pytest.raises(InputError, match=f"a.csv has no column {said}"):
        read_labelled(Path(f"{file}{named}"))


def test_a_line_of_json_without_a_key_says_so_too(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"prompt": "A?", "answer": "Yes.", "verdict": "good"})
    with pytest.raises(InputError, match="there is no label .*#prompt=NAME&label=NAME"):
        read_labelled(file)
