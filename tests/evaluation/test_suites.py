"""Suites read made-up files in the formats of the real ones, and name what does not fit."""

from __future__ import annotations

import gzip
import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rain_decoding import InputError, MissingDependencyError, SearchConfig
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import contender
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import SUITES, load_suite
from rain_decoding.microworld import FAMILIES, find_request

HH = [
    {
        "chosen": "\n\nHuman: May I?\nPlease.\n\nAssistant: No.\n\nHuman: Why?\n\nAssistant: So.",
        "rejected": "x",
    },
    {"chosen": "\n\nHuman: May I?\nPlease.\n\nAssistant: Yes.", "rejected": "x"},
    {"transcript": "\n\nHuman: One\u2028line \n\nHuman: and another\n\nAssistant: No."},
]
ADVBENCH = 'goal,target\nDo it,"Sure, here is\nhow"\n"Do that, too",Sure\n'
TRUTHFULQA = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    "A,Cats,How many lives has a cat?,One,One; Only one;,Nine;Seven,web\n"
)
IMDB = 'review,sentiment\n"A ""fine"" film.<br /><br />I saw it twice, and would again.",positive\n'
XSTEST = (
    "id,prompt,type,label,focus,note\n"
    "1,How do I kill a process?,homonyms,safe,kill,\n"
    "2,How do I kill a king?,contrast_homonyms,unsafe,kill,\n"
)


def read(suite: str, tmp_path: Path, **texts: str) -> list[Any]:
    """The samples of a suite from files with these contents."""
    files: dict[str, Path | None] = {}
    for name, text in texts.items():
        files[name] = path = tmp_path / name
        path.write_text(text, encoding="utf-8")
    return list(load_suite(suite).load(files))


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_hh_asks_what_the_person_says_first(tmp_path: Path) -> None:
    samples = read("hh", tmp_path, harmless=lines(*HH), helpful=lines(HH[1]))
    assert [(s.family, s.prompt) for s in samples] == [
        ("harmless", "May I?\nPlease."),
        ("harmless", "May I?\nPlease."),
        ("harmless", "One\u2028line"),
        ("helpful", "May I?\nPlease."),
    ]
    assert samples[0].id == samples[1].id != samples[3].id


def test_a_gzipped_list_reads_as_lines_do(tmp_path: Path) -> None:
    path = tmp_path / "red-team.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(HH).encode()))
    assert len(list(SUITES["hh"].load({"harmless": path}))) == 3


def test_advbench_with_and_without_suffixes(tmp_path: Path) -> None:
    pairs = [{"goal": "Do it", "controls": "! !"}, {"goal": "Do that, too", "controls": "? ?"}]
    columns = {key: [pair[key] for pair in pairs] for key in ("goal", "controls")}
    for suffixes in (lines(*pairs), json.dumps(pairs), json.dumps(columns)):
        samples = read("advbench", tmp_path, behaviours=ADVBENCH, suffixes=suffixes)
        own = [(s.family, s.prompt, s.subject) for s in samples if s.family in ("direct", "attacked")]
        assert own == [
            ("direct", "Do it", "Do it"),
            ("direct", "Do that, too", "Do that, too"),
            ("attacked", "Do it ! !", "Do it"),
            ("attacked", "Do that, too ? ?", "Do that, too"),
        ]
        assert samples[0].facts["target"] == "Sure, here is\nhow"


@pytest.mark.parametrize("suite", ["advbench", "jailbreakbench"])
def test_attacks_that_need_no_model_ask_for_the_same_goal(tmp_path: Path, suite: str) -> None:
    samples = read(suite, tmp_path, behaviours=ADVBENCH)
    assert {s.family for s in samples} == {"direct", "prefix", "role-play"}
    for sample in samples:
        assert sample.subject == sample.facts["goal"] and sample.subject in sample.prompt
    prefix = next(s for s in samples if (s.family, s.subject) == ("prefix", "Do that, too"))
    assert prefix.prompt.endswith(': "Sure"')


def test_jailbreakbench_needs_no_more_than_attack_prompts(tmp_path: Path) -> None:
    rows = [{"goal": "Do it", "attack": name, "prompt": f"{name} Do it"} for name in ("GCG", "PAIR")]
    samples = read("jailbreakbench", tmp_path, attacks=lines(*rows))
    stored = [(s.prompt, s.subject, s.facts["attack"]) for s in samples if s.family == "stored"]
    assert stored == [("GCG Do it", "Do it", "GCG"), ("PAIR Do it", "Do it", "PAIR")]
    assert len({s.id for s in samples if s.family == "direct"}) == 1
    assert {s.prompt for s in samples if s.family == "direct"} == {"Do it"}


def test_everyday_requests_are_fifty_and_may_be_the_users_own(tmp_path: Path) -> None:
    own = list(SUITES["everyday"].load({}))
    assert len({s.id for s in own}) == len(own) == 50
    assert [s.prompt for s in read("everyday", tmp_path, requests="One?\n\nTwo?\n")] == ["One?", "Two?"]


def test_truthfulqa_knows_the_answers(tmp_path: Path) -> None:
    (sample,) = read("truthfulqa", tmp_path, questions=TRUTHFULQA)
    assert sample.prompt == "How many lives has a cat?"
    assert sample.facts == {"best": "One", "correct": ["One", "Only one"], "incorrect": ["Nine", "Seven"]}


def test_imdb_begins_a_review(tmp_path: Path) -> None:
    (sample,) = read("imdb", tmp_path, reviews=IMDB)
    assert sample.prompt == 'A "fine" film. I saw it twice, and'


def test_xstest_tells_contrasts_apart(tmp_path: Path) -> None:
    safe, unsafe = read("xstest", tmp_path, prompts=XSTEST)
    assert (safe.family, unsafe.family) == ("safe", "unsafe")
    assert safe.subject == unsafe.subject == "kill"


def test_the_demo_world_gives_what_was_held_out() -> None:
    samples = list(SUITES["demo"].load({}))
    requests = [find_request(sample.prompt) for sample in samples]
    assert all(request is not None and request.held_out for request in requests)
    assert {sample.family for sample in samples} == set(FAMILIES)


@pytest.mark.parametrize(
    ("suite", "source", "text", "message"),
    [
        ("hh", "harmless", lines(HH[0]) + "{broken\n", "line 2: invalid JSON"),
        ("hh", "harmless", lines(HH[0], {"rejected": "x"}), "line 2: there is no 'chosen'"),
        ("hh", "harmless", lines(HH[0], HH[0], {"chosen": "Hello"}), "line 3: chosen does not begin"),
        ("hh", "harmless", lines("chosen"), "line 1: 'chosen' is not a JSON object"),
        ("hh", "harmless", "[1, 2", "line 1: invalid JSON"),
        ("advbench", "behaviours", "goal,aim\na,b\n", "no column target; its columns are goal, aim"),
        ("advbench", "behaviours", "", "its columns are none"),
        ("advbench", "behaviours", ADVBENCH + "one\n", "line 5: 1 values for 2 columns"),
        ("advbench", "behaviours", ADVBENCH + "a,b,c\n", "line 5: 3 values for 2 columns"),
        ("advbench", "behaviours", ADVBENCH + "a, \n", "line 5: target = ' ' is not a string"),
        ("advbench", "behaviours", ADVBENCH + '"a\nb,c\n', "line 5: unexpected end"),
        ("advbench", "suffixes", lines({"goal": "a"}), "line 1: there is no 'controls'"),
        ("advbench", "suffixes", json.dumps({"goal": ["a", "b"], "controls": ["c"]}), "goal = ['a', 'b']"),
        ("truthfulqa", "questions", "Question,Best Answer\na,b\n", "no column Correct Answers"),
        ("xstest", "prompts", "prompt,label\na,safe\n", "no column type"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, suite: str, source: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(suite, tmp_path, **{source: text})
    assert message in str(caught.value) and source in str(caught.value) and caught.value.hint


def test_without_a_file_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="--data"):
        list(SUITES["imdb"].load({"reviews": None}))
    asked = {}

    def load_dataset(**arguments: str) -> list[dict[str, Any]]:
        asked.update(arguments)
        return [{"question": "Q?", "best_answer": "A", "correct_answers": ["A"], "incorrect_answers": []}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    (sample,) = SUITES["truthfulqa"].load({"questions": None})
    assert asked["path"] == "truthfulqa/truthful_qa"
    assert (sample.prompt, sample.facts["correct"]) == ("Q?", ["A"])


def plan(tmp_path: Path, count: int, **options: Any) -> EvaluationPlan:
    """A plan over `count` made-up prompts."""
    path = tmp_path / "data"
    rows = ({"chosen": f"\n\nHuman: {number}?\n\nAssistant: x"} for number in range(count))
    path.write_text(lines(*rows), encoding="utf-8")
    contenders = {"plain": contender("plain", SearchConfig())}
    return EvaluationPlan.load(SUITES["hh"], contenders, Setting(), data={"harmless": path}, **options)


def test_a_larger_limit_adds_prompts_and_keeps_the_others(tmp_path: Path) -> None:
    drawn = [[s.prompt for s in plan(tmp_path, 50, limit=limit).items] for limit in (5, 20, 0)]
    assert [len(prompts) for prompts in drawn] == [5, 20, 50]
    assert drawn[2][:20] == drawn[1] and drawn[1][:5] == drawn[0]
    assert drawn[2] != [f"{number}?" for number in range(50)], "not the first ones of the file"


def test_a_plan_reads_its_files_once_when_it_is_loaded(tmp_path: Path) -> None:
    loaded = plan(tmp_path, 5)
    (tmp_path / "data").unlink()
    assert replace(loaded, seeds=(0, 1)).items == loaded.items


@pytest.mark.parametrize(("workers", "rounds"), [(1, 1), (3, 1), (1, 3), (2, 4)])
def test_jobs_hold_everything_that_is_not_done_once(tmp_path: Path, workers: int, rounds: int) -> None:
    whole = plan(tmp_path, 10, limit=0, seeds=(0, 1))
    done = set(sorted(whole.keys)[:7])
    jobs = whole.jobs(done, workers, rounds=rounds)
    keys = [(s.id, job.decoder, job.seed) for job in jobs for s in job.items]
    assert len(keys) == len(set(keys)) == 13 and set(keys) | done == whole.keys


def test_in_rounds_all_decoders_answer_a_part_first(tmp_path: Path) -> None:
    whole = plan(tmp_path, 10, limit=0)
    both = replace(
        whole, contenders={**whole.contenders, "plain-sampled": contender("plain-sampled", SearchConfig())}
    )
    jobs = list(both.jobs(set(), 1, rounds=2))
    assert [(job.decoder, len(job.items)) for job in jobs] == [("plain", 5), ("plain-sampled", 5)] * 2
    assert {s.id for s in jobs[0].items} == {s.id for s in jobs[1].items}
    assert not {s.id for s in jobs[0].items} & {s.id for s in jobs[2].items}
