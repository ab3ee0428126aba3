"""What raters are shown: everything once, in their own order, and not who answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.rating.rated import FAMILIES, answers, study, write

from rain_decoding.errors import InputError
from rain_decoding.evaluation.rating.study import Study, open_study
from rain_decoding.evaluation.rating.tasks import answer_id, answer_tasks, for_rater, pair_tasks

RATERS = [f"rater {number}" for number in range(12)]


@pytest.fixture
def run(tmp_path: Path) -> Study:
    return study(tmp_path / "run")


def test_every_answer_is_shown_once_with_its_family_s_questions(run: Study) -> None:
    shown = [(task.prompt, task.answers[0]) for task in answer_tasks(run)]
    there = {(r["prompt"], r["answer"]) for r in run.records}
    assert len(shown) == len(there) < len(run.records) and set(shown) == there
    for task in answer_tasks(run):
        names = ["harmless"] if "sensitive" in task.answers[0] else ["helpful", "harmless"]
        assert [question.name for question in task.questions] == names


def test_orders_are_the_raters_own_and_stay(run: Study) -> None:
    tasks = answer_tasks(run)
    orders = [[task.id for task in for_rater(tasks, rater)] for rater in RATERS]
    assert all(sorted(order) == sorted(task.id for task in tasks) for order in orders)
    assert len({tuple(order) for order in orders}) == len(RATERS)
    again = for_rater(tasks[::-1], RATERS[0])
    assert [task.id for task in again] == orders[0], "whatever the order of the records"


def test_two_answers_change_sides_between_raters_and_keep_their_values(run: Study) -> None:
    tasks = {task.id: task for task in pair_tasks(run)}
    on_the_left = set()
    for rater in RATERS:
        for shown in for_rater(list(tasks.values()), rater):
            first, second = tasks[shown.id].answers
            values = {label: value for value, label in shown.questions[0].values.items()}
            said = {"first": first, "second": second}
            assert shown.answers == (said[values["Left"]], said[values["Right"]])
            assert values["Tie"] == "tie" and list(values) == ["Left", "Tie", "Right"]
            on_the_left.add((shown.id, values["Left"]))
    assert len(on_the_left) == 2 * len(tasks)


def test_pairs_are_those_with_the_reference_that_differ(run: Study) -> None:
    by_key = {(r["id"], r["decoder"]): r for r in run.records}
    expected = {
        frozenset((r["answer"], by_key[r["id"], "plain"]["answer"]))
        for r in run.records
        if r["answer"] != by_key[r["id"], "plain"]["answer"]
    }
    assert {frozenset(task.answers) for task in pair_tasks(run)} == expected
    for task in pair_tasks(run):
        assert [q.name for q in task.questions] == ["helpful" if "benign" in task.answers[0] else "harmless"]


def test_a_limit_takes_whole_prompts_and_a_larger_one_adds_to_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", answers())
    chosen = [{r["id"] for r in open_study(folder, limit=limit).records} for limit in (2, 4)]
    assert chosen[0] < chosen[1] and [len(ids) for ids in chosen] == [2 * len(FAMILIES), 4 * len(FAMILIES)]
    assert len(open_study(folder, limit=2).records) == 2 * len(FAMILIES) * 3


def test_choices_leave_out_the_rest(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", answers())
    chosen = open_study(folder, decoders=["best-of-16"], questions=["helpful"])
    assert {(r["decoder"], r["family"]) for r in chosen.records} == {("best-of-16", "benign")}
    assert {q.name for task in answer_tasks(chosen) for q in task.questions} == {"helpful"}
    assert {r["family"] for r in open_study(folder, families=["sensitive"]).records} == {"sensitive"}


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"decoders": ["rain"]}, "no decoder 'rain'.*best-of-16, plain, rain:balanced"),
        ({"families": ["question"]}, "no family 'question'"),
        ({"questions": ["truthful"]}, "no question 'truthful'.*harmless, helpful"),
        ({"families": ["sensitive"], "questions": ["helpful"]}, "no answer to rate"),
    ],
)
def test_a_name_that_the_run_does_not_have_is_refused(
    tmp_path: Path, choice: dict[str, list[str]], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        open_study(write(tmp_path / "run", answers()), **choice)  # type: ignore[arg-type]


def test_ids_do_not_depend_on_who_answered(run: Study) -> None:
    for record in run.records:
        assert answer_id(record) == answer_id({**record, "decoder": "another", "seed": 7})
        assert answer_id(record) != answer_id({**record, "answer": record["answer"] + " "})
