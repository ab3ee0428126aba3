"""lm-evaluation-harness runs a task of its own on our decoders, as its command and as a library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.command import SOURCE
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

import rain_decoding.integrations.arguments
from rain_decoding import InputError, RainDecoder, SearchConfig, UnsupportedError
from rain_decoding.backends.local import LocalBackend
from rain_decoding.integrations.lm_eval import RainLM
from rain_decoding.microworld import example_prompts

QUESTIONS = (*example_prompts("sensitive", 2), *example_prompts("benign", 1))
REVIEWS = tuple(example_prompts("review", 3))
TASK = """
task: micro_world
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{wanted}}"
generation_kwargs: {until: ["."], max_gen_toks: 30, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_a_task_runs_by_its_command_and_says_what_the_library_says(
    demo: LocalBackend, tmp_path: Path
) -> None:
    decoder = RainDecoder(demo, "positive-sentiment", SearchConfig.preset("fast"), prompt_format="text")
    answers = decoder.generate_batch(REVIEWS, seed=3, max_tokens=30, stop=(".",))
    wanted = [answers[0].text, "something else", answers[2].text]
    rows = [{"prompt": p, "wanted": w} for p, w in zip(REVIEWS, wanted, strict=True)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = TASK.replace("DATA", str(tmp_path / "data.jsonl"))
    (tmp_path / "micro_world.yaml").write_text(task, encoding="utf-8")
    arguments = [
        "--model",
        "rain",
        "--model_args",
        "model=demo,preset=fast,criterion=positive-sentiment,seed=3",
    ]
    arguments += [
        "--tasks",
        "micro_world",
        "--include_path",
        str(tmp_path),
        "--log_samples",
        "--output_path",
        "out",
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rain_decoding.integrations.lm_eval", "run", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (tmp_path / "out").rglob("samples_micro_world_*.jsonl")
    samples = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    said = {sample["doc"]["prompt"]: sample["resps"][0][0] for sample in samples}
    assert said == {prompt: answer.text for prompt, answer in zip(REVIEWS, answers, strict=True)}
    (results,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(results.read_text(encoding="utf-8"))["results"]["micro_world"]
    assert found["exact_match,none"] == pytest.approx(2 / 3)


@pytest.fixture
def lm(demo: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes the model as the harness does, from its arguments in one text."""
    monkeypatch.setattr(rain_decoding.integrations.arguments, "load_backend", lambda name, **options: demo)
    return lambda text: get_model("rain").create_from_arg_string(text, {"batch_size": 1, "device": None})


def requests(*contexts: str, **options: Any) -> list[Instance]:
    return [Instance("generate_until", {}, (text, options), place) for place, text in enumerate(contexts)]


def test_conversations_are_answered_as_such(lm: Any, demo: LocalBackend) -> None:
    model = lm("decoder=rain:fast@hold_back=4,seed=1")
    assert isinstance(model, RainLM)
    contexts = [model.apply_chat_template([{"role": "user", "content": text}]) for text in QUESTIONS]
    decoder = RainDecoder(demo, "harmlessness", SearchConfig.preset("fast").with_changes(hold_back=4))
    expected = [answer.text for answer in decoder.generate_batch(QUESTIONS, seed=1, max_tokens=40)]
    assert model.generate_until(requests(*contexts, max_gen_toks=40), disable_tqdm=True) == expected
    with pytest.raises(UnsupportedError, match="begins its answers itself"):
        model.apply_chat_template([], add_generation_prompt=False)


def test_requests_with_options_of_their_own_keep_their_places(lm: Any, demo: LocalBackend) -> None:
    model = lm("decoder=plain")
    asked = [
        *requests(REVIEWS[0], max_gen_toks=4),
        *requests(REVIEWS[1], max_gen_toks=9),
        *requests("word " * 5000, max_gen_toks=4),
        *requests(REVIEWS[2], max_gen_toks=4, until=["\n", ""]),
    ]
    texts = model.generate_until(asked, disable_tqdm=True)
    plain = rain_decoding.PlainDecoder(demo, prompt_format="text")
    limits = ((REVIEWS[0], 4), (REVIEWS[1], 9), (REVIEWS[2], 4))
    expected = [plain.generate(text, max_tokens=limit).text for text, limit in limits]
    assert [texts[0], texts[1], texts[3]] == expected
    assert texts[2] == "", "too long for the model"


def test_a_task_that_samples_is_sampled(lm: Any, demo: LocalBackend) -> None:
    options = {"do_sample": True, "temperature": 0.9, "top_p": 0.8, "max_gen_toks": 20}
    texts = lm("decoder=plain,seed=5").generate_until(requests(*REVIEWS, **options), disable_tqdm=True)
    plain = rain_decoding.PlainDecoder(demo, prompt_format="text")
    drawn = plain.generate_batch(REVIEWS, seed=5, max_tokens=20, temperature=0.9, top_p=0.8)
    assert texts == [answer.text for answer in drawn]
    with pytest.raises(InputError, match="temperatures of their own"):
        lm("preset=paper-imdb").generate_until(requests(*REVIEWS, **options), disable_tqdm=True)


def test_what_cannot_be_honoured_is_an_error(lm: Any) -> None:
    model = lm("decoder=plain")
    with pytest.raises(InputError, match="num_beams = 4 is not supported with rain"):
        model.generate_until(requests(REVIEWS[0], num_beams=4), disable_tqdm=True)
    for score in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(UnsupportedError, match="likelihoods are not supported"):
            score(requests(REVIEWS[0]))
    with pytest.raises(InputError, match="unknown model arguments: pretrained"):
        lm("pretrained=gpt2")
