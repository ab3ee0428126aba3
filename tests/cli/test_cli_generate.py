"""`rain generate` and `rain compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain
from decoder_worlds import BAD, GOOD

from rain_decoding.cli import output

QUICK = ["--set", "max_simulations=5", "--set", "extra_simulations=2", "--max-tokens", "12"]
KEYS = {"text", "finish_reason", "score", "usage", "seed", "model", "criterion", "preset"}
USAGE = {
    "prompt_tokens",
    "completion_tokens",
    "search_tokens",
    "forward_passes",
    "simulations",
    "self_evaluations",
    "rewinds",
    "seconds",
}


@pytest.fixture
def scripted(script: Path) -> list[str]:
    """Options that name the scripted model and its criterion."""
    return ["--model", f"scripted:{script / 'model.toml'}", "--criterion", str(script / "kind.toml")]


def test_the_text_goes_to_standard_output_alone(rain: Rain, scripted: list[str]) -> None:
    result = rain("generate", "Open the lock.", *scripted)
    assert (result.code, result.out) == (0, GOOD + "\n")
    assert "stop, score +0.80" in result.err and "rewinds" in result.err
    judge, cost = result.err.splitlines()
    assert judge.startswith("judge: kind: ") and "is asked, since the criterion has no examples" in judge
    assert cost.startswith("stop, ")


def test_json_is_one_object_and_nothing_else(rain: Rain, scripted: list[str]) -> None:
    result = rain("generate", "-", *scripted, "--seed", "7", "--json", stdin="Open the lock.\n")
    value = json.loads(result.out)
    assert result.code == 0 and result.err.startswith("judge: ") and result.err.count("\n") == 1
    assert value.keys() >= KEYS and value["usage"].keys() >= USAGE
    assert (value["text"], value["seed"]) == (GOOD, 7)
    assert value["score"] == pytest.approx(0.9 - 0.1)
    assert (value["criterion"], value["preset"], value["model"]) == ("kind", "balanced", scripted[1])


def test_compare_shows_both_side_by_side(
    rain: Rain, scripted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(rain("compare", "Open the lock.", *scripted, "--json").out)
    assert value.keys() == {"vanilla", "rain"}
    for answer in value.values():
        assert answer.keys() >= KEYS and answer["usage"].keys() >= USAGE
    assert (value["vanilla"]["text"], value["rain"]["text"]) == (BAD, GOOD)
    assert [value[name]["score"] for name in ("vanilla", "rain")] == pytest.approx([-0.8, 0.8])
    assert value["vanilla"]["preset"] is None
    monkeypatch.setattr(output.out, "_width", 60)
    table = rain("compare", "Open the lock.", *scripted).out
    assert "plain decoding" in table and "hairpin" in table and "will not" in table
    assert max(map(len, table.splitlines())) <= 60


@pytest.mark.parametrize("preset", ["balanced", "paper-hh"])
def test_plain_decoding_is_drawn_as_asked(
    rain: Rain, scripted: list[str], preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ " No" holds 0.3, so a seed draws it by plain decoding, unless " Sure" holds enough by itself."""
    arguments = ["Open the lock.", *scripted, "--preset", preset, "--json", "--temperature", "1"]

    def draws(*more: str) -> set[str]:
        answers = (rain("compare", *arguments, *more, "--seed", str(seed)).out for seed in range(8))
        return {json.loads(answer)["vanilla"]["text"] for answer in answers}

    assert draws() == {BAD, GOOD}
    assert draws("--top-p", "0.6") == {BAD}


def test_rain_is_drawn_as_asked(rain: Rain, scripted: list[str]) -> None:
    """A bad draw costs a rewind, a good one none."""
    arguments = ["generate", "Open the lock.", *scripted, "--json", "--temperature"]

    def rewinds(temperature: str) -> set[int]:
        answers = [json.loads(rain(*arguments, temperature, "--seed", str(seed)).out) for seed in range(8)]
        assert {answer["text"] for answer in answers} == {GOOD}
        return {answer["usage"]["rewinds"] > 0 for answer in answers}

    assert rewinds("1") == {True, False} and rewinds("0") == {True}


def test_a_prompt_outside_the_world_gets_an_answer_and_three_to_try(rain: Rain) -> None:
    from rain_decoding.microworld import find_request

    result = rain("generate", "What is the capital of France?", *QUICK)
    assert result.code == 0 and result.out.strip()
    assert "hint" in result.err
    suggested = [line.strip() for line in result.err.splitlines() if find_request(line.strip())]
    assert len(suggested) == 3
    inside = rain("generate", suggested[0], *QUICK, "--json")
    assert "hint" not in inside.err and json.loads(inside.out)["model"] == "demo"


def test_a_system_message_and_stop_strings(rain: Rain, scripted: list[str]) -> None:
    result = rain("generate", "Open.", *scripted, "--system", "Be brief.", "--stop", ",", "--json")
    assert json.loads(result.out)["text"] == "No"


def test_budgets_are_named_in_the_result(rain: Rain, scripted: list[str]) -> None:
    value = json.loads(rain("generate", "Open.", *scripted, "--max-search-tokens", "200", "--json").out)
    assert value["finish_reason"] == "budget"
    assert json.loads(rain("generate", "a", *scripted, "--max-seconds", "1e-9", "--json").out)["text"] == ""


def test_what_cannot_be_judged_is_held_back_with_a_hint(
    rain: Rain, script: Path, scripted: list[str]
) -> None:
    model = script / "model.toml"
    text = model.read_text().replace("B = 0.9 }", "B = 0.1, C = 0.8 }").replace("B = 0.1 }", "C = 0.1 }")
    model.write_text(text)
    result = rain("generate", "Open.", *scripted, "--set", "min_label_mass=0.95")
    assert (result.code, result.out) == (0, "\n")
    assert "unjudged" in result.err and "on_unscored=release" in result.err
    released = rain(
        "generate", "Open.", *scripted, "--set", "min_label_mass=0.95", "--set", "on_unscored=release"
    )
    assert released.out == BAD + "\n" and "not judged" in released.err


@pytest.mark.parametrize(("probability", "said"), [("0.9", False), ("0.53", True)])
def test_a_judge_that_cannot_tell_says_so_of_what_it_calls_good(
    rain: Rain, script: Path, scripted: list[str], probability: str, said: bool
) -> None:
    model = script / "model.toml"
    model.write_text(model.read_text().replace("A = 0.1, B = 0.9", f"A = {probability}, B = 0.47"))
    result = rain("generate", "Open.", *scripted)
    assert result.out == BAD + "\n" and "not judged good" not in result.err
    assert ("the judge cannot tell" in result.err) == said


def test_a_principle_judges(rain: Rain) -> None:
    result = rain(
        "generate", "How do I bake a nut roll at the summer fair?", "--principle", "The answer is polite.",
        *QUICK, "--json",
    )  # fmt: skip
    assert json.loads(result.out)["criterion"] == "principle: The answer is polite."


NO_LABELS = (
    '[judge]\nquestion = "{option_1} {option_2}"\nlead = "It is ("\n[options]\npositive = "a"\nnegative = "b"'
)
WRONG: list[tuple[list[str], str]] = [
    (
        ["x", "--model", "gpt"],
        "forms: demo, gguf:FILE, hf:NAME_OR_FOLDER, openai:BASE_URL#MODEL, scripted:FILE",
    ),
    (["x", "--model", "scripted:nothing.toml"], "there is no script nothing.toml"),
    (["x", "--model", "hf:./"], "no config.json"),
    (["x", "--preset", "paper"], "presets: fast, balanced"),
    (["x", "--criterion", "nicety"], "unknown criterion 'nicety'"),
    (["x", "--criterion", "nolabels.toml"], "labels"),
    (["x", "--criterion", "a", "--principle", "b"], "exclude each other"),
    (["x", "--principle", " "], "principle is empty"),
    (["x", "--set", "candidates"], "NAME=VALUE"),
    (["x", "--set", "candidates=many"], "candidates = 'many'"),
    (["x", "--set", "candidates=0"], "out of range"),
    (["x", "--set", "candidate=1"], "unknown option 'candidate'"),
    (["x", "--set", "similarity=maybe"], "similarity = 'maybe'"),
    (["x", "--set", "token_set_lengths=1,0"], "token_set_lengths"),
    (["x", "--set", "votes=loud"], "hard, soft"),
    (["x", "--max-tokens", "0"], "max_tokens = 0"),
    (["x", "--max-tokens", "many"], "should be a valid integer"),
    (["x", "--max-seconds", "-1"], "max_seconds = -1.0"),
    (["x", "--max-search-tokens", "0"], "max_search_tokens = 0"),
    (["x", "--temperature", "-1"], "temperature = -1.0"),
    (["x", "--top-p", "0"], "top_p = 0.0"),
    (["x", "--preset", "paper-hh", "--temperature", "1"], "temperatures of their own"),
    (["x", "--format", "latex"], "use one of: auto, chat, dialogue, text"),
    (["x", "--format", "chat"], "no chat template"),
    (["x", "--embedding", "word2vec"], "word2vec"),
    (["x", "--system", ""], "content = ''"),
    (["x", "--trace", "no/such/folder/t"], "no folder no/such/folder"),
    (["x", "--frobnicate"], "No such option"),
    (["", "--model", "demo"], "the prompt is empty"),
    (["-"], "the prompt is empty"),
    (["\udcff"], "no valid UTF-8"),
    (["word " * 1500], "tokens long"),
    ([], "Missing argument"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_wrong_usage_is_exit_2_and_one_clear_message(
    rain: Rain, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nolabels.toml").write_text(f'name = "n"\n{NO_LABELS}', encoding="utf-8")
    result = rain("generate", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err


BROKEN_SCRIPTS = [
    "not toml",
    "",
    "next = 3",
    "next = []\n[next2]",
    "[[next]]\nafter = 'a'",
    "[[next]]\ntokens = {}",
    "[[next]]\ntokens = {a = 'x'}",
    "[[next]]\ntokens = {a = -1}",
    "[[next]]\ntokens = {'' = 1}",
    "[[next]]\ntokens = {a = 1}\nbefore = 'x'",
]


@pytest.mark.parametrize("content", BROKEN_SCRIPTS)
def test_a_broken_script_is_wrong_usage(rain: Rain, script: Path, content: str) -> None:
    (script / "broken.toml").write_text(content, encoding="utf-8")
    result = rain("generate", "x", "--model", f"scripted:{script / 'broken.toml'}")
    assert result.code == 2 and "broken.toml" in result.err


def test_a_script_without_the_criterions_labels_is_wrong_usage(rain: Rain, script: Path) -> None:
    (script / "mute.toml").write_text("[[next]]\ntokens = { a = 1 }", encoding="utf-8")
    criterion = str(script / "kind.toml")
    result = rain("generate", "x", "--model", f"scripted:{script / 'mute.toml'}", "--criterion", criterion)
    assert result.code == 2 and "labels" in result.err


def test_a_scripted_model_takes_no_device(rain: Rain, scripted: list[str]) -> None:
    result = rain("generate", "x", *scripted, "--device", "cpu")
    assert result.code == 2 and "device" in result.err


def test_a_model_that_fails_is_exit_1(
    rain: Rain, scripted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from rain_decoding.backends.scripted import ScriptedEngine

    def nan(self: Any, sequences: Any, owners: Any) -> Any:
        ones = [1] * len(sequences)
        return np.full((len(sequences), self.vocabulary_size), np.nan, np.float32), ones, ones

    monkeypatch.setattr(ScriptedEngine, "forward", nan)
    result = rain("generate", "x", *scripted)
    assert result.code == 1 and "NaN" in result.err and "float32" in result.err


def test_a_trace_is_written_and_shown_as_a_tree(rain: Rain, scripted: list[str], tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"
    rain("generate", "Open the lock.", *scripted, "--preset", "paper-hh", "--trace", str(file))
    result = rain("trace", file)
    assert result.code == 0
    lines = result.out.splitlines()
    assert "Open the lock." in lines[0] and "kind" in lines[0]
    assert lines[1].split() == ["Q", "U", "p", "n", "v"]
    answer = "".join(line.partition("✓ '")[2].partition("'")[0] for line in lines)
    assert answer.strip() == GOOD
    (bad,) = [line for line in lines if "' Sure'" in line]
    assert "↩ rewound: judged -1.0 after it went on ', take a hairpin.'" in bad
    # Three visits, all bad: Q 0, value -1.
    q, _, _, visits, value = bad.split()[:5]
    assert (q, visits, value) == ("0.00", "3.00", "-1.00")
    assert GOOD in result.out and "rewinds" in lines[-1]
    before = file.read_bytes()
    same = rain("trace", file, "--html", tmp_path / "." / "search.jsonl")
    assert same.code == 2 and "is the trace file itself" in same.err and file.read_bytes() == before
    assert rain("trace", file, "--all").out.count("\n") >= len(lines)
    assert len(rain("trace", file, "--depth", "1").out) < len(result.out)


def test_a_broken_trace_is_wrong_usage(rain: Rain, scripted: list[str], tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"
    rain("generate", "Open the lock.", *scripted, "--trace", str(file))
    whole = file.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    broken = [
        "",
        whole[: len(whole) // 2],
        "".join(lines[:-1]),
        "".join(lines[1:]),
        "".join(line for line in lines if '"expand"' not in line),
    ]
    broken.append("".join([lines[0].replace('"exploration": 2.0', '"exploration": "x"'), *lines[1:]]))
    for content in broken:
        file.write_text(content, encoding="utf-8")
        result = rain("trace", file)
        assert result.code == 2 and "broken or cut off" in result.err, content
    assert rain("trace", tmp_path / "none").code == 2


def test_ctrl_c_keeps_what_is_committed(
    rain: Rain, scripted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rain_decoding.backends.scripted import ScriptedEngine
    from rain_decoding.decoding.trace import read_trace

    calls, forward = 0, ScriptedEngine.forward

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 16:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(ScriptedEngine, "forward", interrupted)
    file = tmp_path / "trace"
    result = rain(
        "generate", "Open the lock.", *scripted, "--preset", "paper-hh", "--json", "--trace", str(file)
    )
    value = json.loads(result.out)
    assert (result.code, value["finish_reason"], value["usage"]["forward_passes"]) == (130, "cancelled", 15)
    assert value["usage"]["simulations"] > 0
    assert read_trace(file)[-1]["finish_reason"] == "cancelled"


def test_another_model_judges_and_the_cost_says_what_it_took(rain: Rain, scripted: list[str]) -> None:
    value = json.loads(rain("generate", "Open the lock.", *scripted, "--judge", scripted[1], "--json").out)
    assert value["text"] == GOOD and value["criterion"] == f"kind by {scripted[1]}"
    assert 0 < value["usage"]["judge_tokens"] < value["usage"]["search_tokens"]
    assert value["flagged"] is False and "fallback" not in value


def test_several_criteria_and_their_scores(rain: Rain, scripted: list[str]) -> None:
    several = f'"{scripted[3]}">0.5, {scripted[3]}'
    assert rain("generate", "Open the lock.", *scripted[:2], "-c", several).code == 2, "one criterion twice"
    value = json.loads(
        rain("generate", "Open the lock.", *scripted[:2], "-c", f"{scripted[3]}>0.5", "--json").out
    )
    assert value["text"] == GOOD and value["parts"] == {scripted[3]: pytest.approx(0.8)}
    result = rain("generate", "Open the lock.", *scripted[:2], "-c", "min(harmlessness")
    assert result.code == 2 and "was expected at the end" in result.err


def test_what_is_returned_in_place_of_a_bad_answer(rain: Rain, scripted: list[str]) -> None:
    strict = ["--set", "accept_value=0.95", "--set", "max_simulations=4"]
    flagged = rain("generate", "Open the lock.", *scripted, *strict)
    assert flagged.code == 0 and "not judged good" in flagged.err
    refusal = ["--fallback", "refusal", "--refusal", "Not by me."]
    value = json.loads(rain("generate", "Open the lock.", *scripted, *strict, *refusal, "--json").out)
    assert (value["text"], value["fallback"], value["flagged"]) == ("Not by me.", "refusal", False)
    assert value["withheld"] + "\n" == flagged.out and value["score"] is None
    shown = rain("generate", "Open the lock.", *scripted, *strict, *refusal)
    assert shown.out == "Not by me.\n" and "refusal instead of" in shown.err
    wrong = rain("generate", "Open the lock.", *scripted, "--refusal", "Not by me.")
    assert wrong.code == 2 and "--fallback refusal" in wrong.err


def test_engine_options_reach_the_model_and_the_records(rain: Rain, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    asked = ["--engine-option", "max_kv_slots=4000", "--engine-option", "engine=trie"]
    done = rain(
        "generate", "How do I bake a nut roll?", "--max-tokens", "4", "--json", "--trace", str(trace), *asked
    )
    expected = {"max_kv_slots": 4000, "engine": "trie"}
    assert json.loads(done.out)["engine_options"] == expected
    assert json.loads(trace.read_text().splitlines()[0])["engine_options"] == expected
    wrong = rain("generate", "How do I bake a nut roll?", "--engine-option", "threads=2")
    assert wrong.code == 2 and "demo has no engine option 'threads'" in wrong.err
    listed = json.loads(rain("models", "options", "--json").out)
    assert listed["gguf:FILE"]["kv_dtype"]["values"] == "f16, f32"
