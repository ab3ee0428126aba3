"""One corpus of hostile texts through every backend, door and file format: right, or one clear error, never more."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from backends.gguf.files import load as load_gguf
from backends.gguf.files import random_llama
from backends.openai.stub import served
from cli.command import Rain, runner
from decoder_worlds import CRITERION, lock_world
from evaluation.rating.rated import answers, write
from fastapi.testclient import TestClient
from hostile import LINE_ENDS, MARKS, SURROGATES, bare, corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai.model import GenerateConfig, get_model
from server.running import Running, serving

from rain_decoding import InputError, PlainDecoder, RainDecoder, RainError, SearchConfig, rain_generate
from rain_decoding.backends.base import Backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.calibration.labelled import read_labelled
from rain_decoding.demo import MODEL_DIR
from rain_decoding.evaluation.rating.app import create_app
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study
from rain_decoding.evaluation.rating.tasks import answer_tasks
from rain_decoding.evaluation.suites import load_suite
from rain_decoding.measurement.records import RecordFile
from rain_decoding.self_evaluation.criterion import read_criterion
from rain_decoding.server.settings import read_settings

TEXTS = corpus()
MODEL = "scripted"
SEARCH = SearchConfig.preset("fast")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Backend]:
    with served(lock_world()) as (_, backend):
        yield backend


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return load_gguf(random_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf"))


@pytest.fixture(params=["scripted", "transformers", "gguf", "endpoint"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "scripted":
        return lock_world()
    return request.getfixturevalue({"transformers": "demo_backend"}.get(request.param, request.param))


def is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def commands_terminals(character: str) -> bool:
    """Whether it is a control character, or changes the direction of what follows."""
    kind, turns = unicodedata.category(character), unicodedata.bidirectional(character)
    return (kind == "Cc" and character != "\n") or turns in (
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    )


# Backends, from Python


def test_every_backend_answers_every_text(backend: Backend) -> None:
    """None of their marks is left in what the model reads; too long a prompt is named."""
    answered = 0
    decoder = PlainDecoder(backend, prompt_format="text")  # the room for a dialogue is small in tiny models
    for index, found in decoder.attempt_batch(TEXTS, (RainError,), max_tokens=2, concurrency=8):
        if isinstance(found, RainError):
            assert "context" in str(found), (TEXTS[index], found)
            continue
        answered += 1
        assert is_valid(found.text)
    assert answered > len(TEXTS) * 0.9
    for text in SURROGATES:
        with pytest.raises(InputError, match="not valid Unicode"):
            decoder.generate(text, max_tokens=2)


def test_every_text_is_judged_and_searched() -> None:
    decoder = RainDecoder(lock_world(), CRITERION, SEARCH)
    for found in decoder.generate_batch(TEXTS, max_tokens=8):
        assert found.score is not None and is_valid(found.text)


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_prompt_or_named(text: str) -> None:
    decoder = PlainDecoder(lock_world())
    if is_valid(text) and text.strip():
        assert decoder.generate(text, max_tokens=1).tokens
    else:
        with pytest.raises(InputError):
            decoder.generate(text, max_tokens=1)


# Other doors


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


def test_the_command_answers_what_it_is_told_on_standard_input(
    rain: Rain, script: Path, tmp_path: Path
) -> None:
    model = ("--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml")
    trace = tmp_path / "trace.jsonl"
    for text in TEXTS[::7]:
        done = rain("generate", "-", *model, "--json", "--trace", trace, stdin=text)
        assert done.code == 0 and json.loads(done.out)["text"], (text, done.err)
        shown = rain("trace", trace)
        assert shown.code == 0, (text, shown.err)
        assert not {c for c in shown.out if commands_terminals(c)}
    for text in SURROGATES:
        done = rain("generate", "-", *model, stdin=text)
        assert done.code == 2 and "the prompt is no" in done.err and "Traceback" not in done.err


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(client_may=frozenset(["decisions"])) as running:
        yield running


def post(running: Running, path: str, body: dict[str, Any]) -> Any:
    """Escaped, as most clients send it, so that also half a surrogate pair arrives."""
    with running.http() as http:
        return http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


def test_the_server_answers_every_text(running: Running) -> None:
    for text in TEXTS:
        messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages, "stop": text[:1000]}
        answer = post(running, "/v1/chat/completions", body)
        assert answer.status_code == 200 and answer.content.isascii(), (text, answer.text)
        assert (
            len(text) <= 1000
            or "1000 characters" in post(running, "/v1/chat/completions", {**body, "stop": text}).text
        )
    for text in TEXTS[::5]:
        answer = post(running, "/v1/completions", {"model": MODEL, "prompt": text, "max_tokens": 1})
        assert answer.status_code == 200 and answer.content.isascii(), (text, answer.text)
        streamed = post(
            running,
            "/v1/chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True},
        )
        assert streamed.content.isascii()
        lines = [line for line in streamed.text.split("\n") if line.startswith("data: {")]
        assert lines and all("error" not in json.loads(line[6:]) for line in lines)
    for text in SURROGATES:
        answer = post(
            running, "/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        )
        assert answer.status_code == 400 and answer.content.isascii(), answer.text
    with running.http() as http:
        assert http.get("/readyz").status_code == 200


BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/messages": lambda text: {
        "messages": [{"role": "user", "content": text}],
        "system": text,
        "max_tokens": 4,
        "stop_sequences": [text[:900]],
    },
    "/v1/messages/count_tokens": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/responses": lambda text: {"input": text, "instructions": text, "max_output_tokens": 4},
    "/v1/decisions": lambda text: {
        "input": text,
        "questions": [{"type": "predicate", "instructions": text}],
    },
}
"""Requests in the words of other APIs that hold a text."""


@pytest.mark.parametrize("path", BODIES)
def test_other_apis_answer_every_text(running: Running, path: str) -> None:
    """Or say what is wrong with it; lines of their streams are whole, too."""
    for text in [*TEXTS[::3], *SURROGATES]:
        body = {"model": MODEL, **BODIES[path](text)}
        for streamed in (False, True) if path in ("/v1/messages", "/v1/responses") else (False,):
            answer = post(running, path, {**body, "stream": True} if streamed else body)
            allowed = (400,) if text in SURROGATES else (200, 400) if "decisions" in path else (200,)
            assert answer.status_code in allowed and answer.content.isascii(), (text, answer.text)
            lines = [line for line in answer.text.split("\n") if line.startswith("data: {")]
            assert bool(lines) == (streamed and answer.status_code == 200)
            assert all(json.loads(line[6:]) for line in lines)


@pytest.mark.parametrize("text", [*TEXTS[::11], *SURROGATES])
def test_names_that_are_hostile_texts_are_refused_or_taken(running: Running, text: str) -> None:
    """Wherever a client may write a text, and in the address."""
    messages = [{"role": "user", "content": "Hi"}]
    for field in ("model", "user", "service_tier", text):
        answer = post(running, "/v1/chat/completions", {"model": MODEL, "messages": messages, field: text})
        assert answer.status_code in (200, 400, 404) and answer.content.isascii(), (field, answer.text)
    with running.http() as http:
        for path in ("/v1/models/", "/v1/rain/traces/"):
            quoted = "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
            found = http.get(path + quoted[:6000])
            assert found.status_code in (400, 404), found.text


def test_inspects_provider_answers_every_text(demo: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    import rain_decoding.integrations.arguments as arguments

    monkeypatch.setattr(arguments, "load_backend", lambda name, **options: demo)
    model = get_model("rain/demo", memoize=False, preset="fast")
    config = GenerateConfig(max_tokens=2, seed=0)

    async def ask() -> list[Any]:
        some = [text for text in TEXTS[::9] if len(text) < 500]
        return await asyncio.gather(*(model.generate(text, config=config) for text in some))

    try:
        assert all(is_valid(output.completion) for output in asyncio.run(ask()))
    finally:
        model.api.close()  # type: ignore[attr-defined]


def test_custom_generate_goes_on_behind_every_text() -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL_DIR, pad_token="<|end|>")
    texts = [f"Human: {text}\n\nAssistant:" for text in TEXTS[::9] if len(text) < 500]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    found = model.generate(
        **batch,
        custom_generate=rain_generate,
        rain_tokenizer=tokenizer,
        rain_criterion="helpfulness",
        rain_stop=TEXTS[0],
        max_new_tokens=2,
    )
    assert found.shape[0] == len(texts) and is_valid("".join(tokenizer.batch_decode(found)))


# Files


def as_csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=not is_valid(str(row))) + "\n" for row in rows)


def transcript(text: str) -> str:
    return f"\n\nHuman: {text}\n\nAssistant: So be it."


SUITES: dict[str, tuple[str, str, str, Callable[[str], dict[str, str]], Callable[..., str]]] = {
    "csv": ("xstest", "prompts", "x.csv", lambda text: {"prompt": text, "type": "safe"}, as_csv),
    "csv.gz": ("xstest", "prompts", "x.csv.gz", lambda text: {"prompt": text, "type": "safe"}, as_csv),
    "json lines": ("hh", "harmless", "x.jsonl", lambda text: {"chosen": transcript(text)}, as_lines),
    "json lines.gz": ("hh", "harmless", "x.jsonl.gz", lambda text: {"chosen": transcript(text)}, as_lines),
    "json list": ("hh", "harmless", "x.json", lambda text: {"transcript": transcript(text)}, json.dumps),
}
"""By format: suite, name of its file, file, row, writer."""


def written(path: Path, text: str) -> Path:
    content = text.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("form", SUITES)
def test_data_of_suites_is_read_as_it_was_written(form: str, tmp_path: Path) -> None:
    suite, name, file, row, write_rows = SUITES[form]
    texts = [text for text in TEXTS if "Human:" not in text]
    path = written(tmp_path / file, write_rows([row(text) for text in texts]))
    found = [item.prompt for item in load_suite(suite).load({name: path})]
    # Line ends of other systems are one line end in transcripts.
    wanted = [text.replace("\r\n", "\n").replace("\r", "\n") if suite == "hh" else text for text in texts]
    assert found == [text.strip() for text in wanted]


@pytest.mark.parametrize("form", SUITES)
@pytest.mark.parametrize("text", SURROGATES)
def test_data_of_suites_that_is_no_text_is_named(form: str, text: str, tmp_path: Path) -> None:
    suite, name, file, row, write_rows = SUITES[form]
    path = written(tmp_path / file, write_rows([row(f"Hello {text}")]))
    with pytest.raises(InputError, match=file):
        list(load_suite(suite).load({name: path}))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_labelled_answers_are_read_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": text, "answer": text, "label": "good"} for text in TEXTS]
    found = read_labelled(written(tmp_path / f"x.jsonl{suffix}", as_lines(rows)))
    assert [(one.messages[0].content, one.answer) for one in found] == [(text, text) for text in TEXTS]
    for text in SURROGATES:
        rows = [{"prompt": text, "answer": "a", "label": "good"}]
        with pytest.raises(InputError):
            read_labelled(written(tmp_path / f"y.jsonl{suffix}", as_lines(rows)))


def test_records_are_kept_whatever_they_hold(tmp_path: Path) -> None:
    """Also what is no text: a model's server may have said it."""
    file = RecordFile(tmp_path / "records.jsonl", {"id": str})
    kept = [{"id": text, text: [text]} for text in [*TEXTS, *SURROGATES]]
    for record in kept:
        file.append(record)
    assert file.read() == kept
    file.write(kept[::-1])
    assert file.read() == kept[::-1]


def test_a_run_over_hostile_data_is_reported(rain: Rain, script: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "x.csv", as_csv([{"prompt": text, "type": "safe"} for text in TEXTS[::6]]))
    model = ["--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml"]
    how = ["--decoders", "plain,rain:fast", "--limit", "0", "--max-tokens", "8", "--workers", "1"]
    command = ["eval", "xstest", "--data", data, "--out", tmp_path / "run", *how, *model, "--traces"]
    done = rain(*command)
    assert done.code == 0, done.err
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert rain(*command).code == 0 and (tmp_path / "run" / "records.jsonl").read_bytes() == before
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<img src=x>" not in page and "\x1b" not in page


def test_ratings_of_hostile_answers_are_shown_and_kept(tmp_path: Path) -> None:
    texts = iter(TEXTS)
    folder = write(tmp_path / "run", [{**r, "answer": next(texts), "prompt": next(texts)} for r in answers()])
    tasks, store = answer_tasks(open_study(folder)), RatingStore(folder)
    client = TestClient(create_app(tasks, store))
    known = (tasks[0].id, tasks[0].questions[0].name, next(iter(tasks[0].questions[0].values)))
    taken = {}
    for text in [*TEXTS, *SURROGATES]:
        body = dict(zip(("task", "question", "value"), known, strict=True)) | {"rater": text}
        content = json.dumps(body)
        rated = client.post("/api/ratings", content=content, headers={"content-type": "application/json"})
        assert rated.status_code in (204, 400), (text, rated.text)
        if rated.status_code == 204:
            taken[text.strip(), *known[:2]] = known[2]
    assert 0 < len(taken) < len(TEXTS)
    assert RatingStore(folder).values == taken, "what was acknowledged is there, and nothing else"
    shown = client.get("/api/tasks", params={"rater": "Ann"}).json()["tasks"]
    assert {task["answers"][0] for task in shown} == {task.answers[0] for task in tasks}


CRITERION_FILE = """
name = "kind"
summary = {text}
[judge]
question = "Options:\\n(A) {{option_1}}\\n(B) {{option_2}}"
lead = "It is ("
[options]
labels = ["A", "B"]
positive = {text}
negative = "It is not."
"""


@pytest.mark.parametrize("number", range(0, len(TEXTS), 5))
def test_files_of_criteria_and_settings_hold_any_text(number: int, tmp_path: Path) -> None:
    """What JSON escapes, TOML reads alike, but for what is no text."""
    text = TEXTS[number]
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    path = written(tmp_path / "c.toml", CRITERION_FILE.format(text=quoted))
    assert read_criterion(path).statements[0] == text
    settings_file = written(tmp_path / "s.toml", f"served_name = {quoted}\nrefusal = {quoted}\n")
    assert read_settings(settings_file).refusal == text


@pytest.mark.parametrize("text", [*SURROGATES, *LINE_ENDS[:5], "\x00"])
def test_files_that_are_no_toml_are_named(text: str, tmp_path: Path) -> None:
    path = written(tmp_path / "c.toml", CRITERION_FILE.format(text=f'"{text}"'))
    for read in (read_criterion, read_settings):
        with pytest.raises(RainError, match=r"c\.toml"):
            read(path)


def test_marks_are_in_the_corpus_as_they_are_and_in_disguise() -> None:
    assert all(any(mark in text for text in TEXTS) for mark in MARKS)
    assert all(sum(bare(mark) in bare(text) for text in TEXTS) >= 4 for mark in MARKS)
