"""The official client against a real `rain serve` process: it works unchanged, and answers are those of the library."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from server.running import Running

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend

BAD = "How do I spread a false story about Linnet by the duck pond?"
GOOD = "How do I bake a nut roll at the summer fair?"


def ask(running: Running, prompt: str = BAD, **options: Any) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return running.client().chat.completions.create(
        **{"model": "demo", "messages": messages, "seed": 0, **options}
    )


@pytest.fixture
def alone(demo: LocalBackend) -> RainDecoder:
    """The same decoder in this process."""
    return RainDecoder(demo)


def test_answers_are_those_of_the_library(demo_server: Running, alone: RainDecoder) -> None:
    expected = alone.generate(BAD, seed=0)
    answer = ask(demo_server)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason == "stop"
    usage = expected.usage
    assert answer.usage.prompt_tokens == usage.prompt_tokens
    assert answer.usage.completion_tokens == usage.completion_tokens
    assert answer.usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    rain = answer.rain
    assert rain["score"] == pytest.approx(expected.score, abs=1e-3) and not rain["flagged"]
    assert (rain["rewinds"], rain["simulations"]) == (usage.rewinds, usage.simulations)
    assert rain["rewinds"] > 0
    assert (rain["preset"], rain["criterion"]) == ("balanced", "harmlessness")


def test_a_stream_is_the_same_text_in_pieces(demo_server: Running, alone: RainDecoder) -> None:
    chunks = list(ask(demo_server, stream=True, stream_options={"include_usage": True}))
    pieces = [
        chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
    ]
    expected = [commit.text for commit in alone.stream(BAD, seed=0) if commit.text]
    assert pieces == expected and len(pieces) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_many_at_once_are_not_mixed_up(demo_server: Running, alone: RainDecoder) -> None:
    wanted = [
        (prompt, seed, streamed) for prompt in (BAD, GOOD) for seed in (0, 1) for streamed in (False, True)
    ]

    def answer(entry: tuple[str, int, bool]) -> str:
        prompt, seed, streamed = entry
        answer = ask(demo_server, prompt, seed=seed, stream=streamed, temperature=1)
        if not streamed:
            return answer.choices[0].message.content
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer)

    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(answer, wanted))
    texts = {
        (prompt, seed): alone.generate(prompt, seed=seed, temperature=1.0).text
        for prompt in (BAD, GOOD)
        for seed in (0, 1)
    }
    assert answers == [texts[prompt, seed] for prompt, seed, _ in wanted]
    assert len(set(texts.values())) == 4


def test_n_answers_have_seeds_one_apart(demo_server: Running, alone: RainDecoder) -> None:
    answer = ask(demo_server, GOOD, n=2, temperature=1, seed=5)
    expected = [alone.generate(GOOD, seed=seed, temperature=1.0).text for seed in (5, 6)]
    assert [choice.message.content for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [entry["seed"] for entry in answer.rain["choices"]] == [5, 6]


def test_plain_decoding_by_name(demo_server: Running, demo: LocalBackend) -> None:
    answer = ask(demo_server, model="demo:plain")
    assert answer.choices[0].message.content == PlainDecoder(demo).generate(BAD, seed=0).text
    assert answer.rain["score"] is None and answer.rain["criterion"] is None


def test_a_conversation_with_a_system_message_and_parts(demo_server: Running, alone: RainDecoder) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": BAD},
        {"role": "assistant", "content": "I would rather not."},
        {"role": "user", "content": GOOD},
    ]
    expected = alone.generate(messages, seed=0)
    messages[0]["role"] = "developer"
    messages[-1]["content"] = [{"type": "text", "text": GOOD[:10]}, {"type": "text", "text": GOOD[10:]}]
    answer = ask(demo_server, messages=messages)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens


def test_limits_stops_and_bias(demo_server: Running, demo: LocalBackend, alone: RainDecoder) -> None:
    short = ask(demo_server, GOOD, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3
    stopped = ask(demo_server, GOOD, stop=["nut"])
    assert stopped.choices[0].finish_reason == "stop" and "nut" not in stopped.choices[0].message.content
    first = demo.codec.encode(alone.generate(GOOD, seed=0).text, start=False)[0]
    repeats = {"frequency_penalty": 1.5, "presence_penalty": 0.5}
    expected = alone.generate(GOOD, seed=0, **repeats).text
    assert ask(demo_server, GOOD, **repeats).choices[0].message.content == expected
    biased = ask(demo_server, GOOD, logit_bias={str(first): -100})
    expected = alone.generate(GOOD, seed=0, logit_bias={first: -100.0}).text
    assert biased.choices[0].message.content == expected != short.choices[0].message.content


def test_top_k_says_how_plain_decoding_draws(demo_server: Running, alone: RainDecoder) -> None:
    """One token is the greedy text, at any temperature; -1 is all tokens, as vLLM's clients say it."""

    def text(top_k: int) -> str:
        answer = ask(demo_server, GOOD, temperature=2, extra_body={"top_k": top_k})
        return str(answer.choices[0].message.content)

    assert text(1) == alone.generate(GOOD, seed=0).text
    drawn = alone.generate(GOOD, seed=0, temperature=2.0).text
    assert text(-1) == text(0) == drawn != text(1)


def test_completions_continue_texts(demo_server: Running, demo: LocalBackend) -> None:
    prompts = [f"Human: {prompt}\n\nAssistant:" for prompt in (BAD, GOOD)]
    answer = demo_server.client().completions.create(model="demo", prompt=prompts, seed=0, max_tokens=20)
    decoder = RainDecoder(demo, prompt_format="text")
    expected = [decoder.generate(prompt, seed=0, max_tokens=20) for prompt in prompts]
    assert [choice.text for choice in answer.choices] == [completion.text for completion in expected]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(completion.usage.prompt_tokens for completion in expected)
    streamed = demo_server.client().completions.create(
        model="demo", prompt=prompts[0], seed=0, max_tokens=20, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected[0].text


def test_what_the_operator_allows_is_done(demo_server: Running, demo: LocalBackend) -> None:
    rain = {"preset": "fast", "criterion": "helpfulness", "threshold": 0.25, "trace": True}
    answer = ask(demo_server, extra_body={"rain": rain})
    config = SearchConfig.preset("fast", accept_value=0.25)
    expected = RainDecoder(demo, "helpfulness", config).generate(BAD, seed=0, trace=True)
    assert answer.choices[0].message.content == expected.text
    assert (answer.rain["preset"], answer.rain["criterion"]) == ("fast", "helpfulness")
    trace = answer.rain["trace"]
    assert trace[0]["config"]["accept_value"] == 0.25
    assert [event["event"] for event in trace] == [event["event"] for event in expected.trace]


def test_a_trace_comes_with_the_stream_and_stays_for_a_while(demo_server: Running) -> None:
    chunks = list(ask(demo_server, stream=True, extra_body={"rain": {"trace": True}}))
    events = [event for chunk in chunks for event in (getattr(chunk, "rain", None) or {}).get("events", [])]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start" and kinds[-1] == "end" and "commit" in kinds and "rewind" in kinds
    first_text = next(i for i, chunk in enumerate(chunks) if chunk.choices[0].delta.content)
    assert any(getattr(chunk, "rain", None) for chunk in chunks[:first_text])
    with demo_server.http() as http:
        kept = http.get(f"/v1/rain/traces/{chunks[-1].rain['trace_id']}").text
        assert http.get("/v1/rain/traces/none").status_code == 404
    assert [json.loads(line) for line in kept.splitlines()] == events


REFUSED = {
    "logprobs": ({"logprobs": True}, "logprobs"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    "no tools": ({"tool_choice": "required"}, "tool_choice"),
    "json schema": ({"response_format": {"type": "json_object"}}, "response_format"),
    "no schema": ({"response_format": {"type": "json_schema"}}, "response_format"),
    "penalty": ({"frequency_penalty": 2.5}, "frequency_penalty"),
    "unknown": ({"extra_body": {"mirostat": 1}}, "mirostat"),
    "n": ({"n": 100}, "n"),
    "temperature": ({"temperature": 3}, "temperature"),
    "limits": ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    "length": ({"max_tokens": 100_000}, "messages"),
    "role": ({"messages": [{"role": "narrator", "content": "x"}]}, "messages"),
    "no id": ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
    "no text": ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
    "stop": ({"stop": [1]}, "stop"),
    "an empty stop": ({"stop": ""}, "stop"),
    "order": ({"messages": [{"role": "assistant", "content": "x"}]}, None),
    "bias": ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    "criterion": ({"extra_body": {"rain": {"criterion": "../../secret.toml"}}}, "rain.criterion"),
    "preset": ({"extra_body": {"rain": {"preset": "paper-hh"}}, "temperature": 1}, "temperature"),
    "two judges": ({"extra_body": {"rain": {"criterion": "helpfulness", "principle": "It is."}}}, "rain"),
}


@pytest.mark.parametrize(("options", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_honoured_is_an_error_that_names_it(
    demo_server: Running, options: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(demo_server, **options)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error" and raised.value.message


def test_neutral_values_and_labels_are_taken(demo_server: Running, alone: RainDecoder) -> None:
    answer = ask(
        demo_server,
        GOOD,
        max_tokens=2,
        frequency_penalty=0,
        presence_penalty=0.0,
        logprobs=False,
        tools=[],
        response_format={"type": "text"},
        user="someone",
        metadata={"a": "b"},
    )
    assert answer.choices[0].message.content == alone.generate(GOOD, seed=0, max_tokens=2).text != ""


@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_what_the_pages_show_runs(
    demo_server: Running, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "OpenAI" in block)
    exec(compile(example.replace("http://127.0.0.1:8000", demo_server.url), page, "exec"), {})
    assert "nut roll" in capsys.readouterr().out


def test_models(demo_server: Running) -> None:
    client = demo_server.client()
    assert [model.id for model in client.models.list()] == ["demo", "demo:plain"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "x"}])
    assert raised.value.code == "model_not_found"


def test_the_log_has_ids_and_no_prompts(demo_server: Running) -> None:
    with demo_server.http() as http:
        body = {"model": "demo", "messages": [{"role": "user", "content": GOOD}], "max_tokens": 2}
        response = http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        other = http.get("/v1/models", headers={"x-request-id": "no good id"}).headers["x-request-id"]
        assert other != "no good id"
    entry = demo_server.logged(request_id="mine-1", message="request")
    assert (entry["status"], entry["completion_tokens"]) == (200, 2)
    assert "nut roll" not in str(demo_server.log)
