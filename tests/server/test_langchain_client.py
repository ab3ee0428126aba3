"""A second client, LangChain's, against a real `rain serve` process."""

from __future__ import annotations

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from server.running import Running
from server.test_openai_client import BAD, GOOD

from rain_decoding import RainDecoder
from rain_decoding.backends.local import LocalBackend


def chat(running: Running, **options: object) -> ChatOpenAI:
    settings = {"model": "demo", "api_key": "any", "base_url": f"{running.url}/v1", "max_retries": 0}
    return ChatOpenAI(**{**settings, "seed": 0, **options})  # type: ignore[arg-type]


def test_a_conversation(demo_server: Running, demo: LocalBackend) -> None:
    turns = [
        SystemMessage("Be brief."),
        HumanMessage(BAD),
        AIMessage("I would rather not."),
        HumanMessage(GOOD),
    ]
    answer = chat(demo_server).invoke(turns)
    roles = {"human": "user", "ai": "assistant"}
    messages = [{"role": roles.get(turn.type, turn.type), "content": turn.content} for turn in turns]
    expected = RainDecoder(demo).generate(messages, seed=0)
    assert answer.content == expected.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == expected.usage.prompt_tokens
    assert answer.response_metadata["finish_reason"] == "stop"


def test_a_stream_comes_in_pieces(demo_server: Running, demo: LocalBackend) -> None:
    chunks = list(chat(demo_server, stream_usage=True).stream(BAD))
    pieces = [chunk.content for chunk in chunks if chunk.content]
    expected = list(RainDecoder(demo).stream(BAD, seed=0))
    assert pieces == [commit.text for commit in expected if commit.text] and len(pieces) > 1
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert len(usage) == 1 and usage[0]["output_tokens"] > 0


def test_several_answers_and_a_stop(demo_server: Running, demo: LocalBackend) -> None:
    decoder = RainDecoder(demo)
    several = chat(demo_server, n=2, temperature=1, seed=5).generate([[HumanMessage(GOOD)]])
    expected = [decoder.generate(GOOD, seed=seed, temperature=1.0).text for seed in (5, 6)]
    assert [answer.text for answer in several.generations[0]] == expected
    stopped = chat(demo_server).invoke(GOOD, stop=["nut"])
    assert stopped.content == decoder.generate(GOOD, seed=0, stop=["nut"]).text


def test_the_extras_of_a_request_and_errors(demo_server: Running) -> None:
    refined = chat(demo_server, extra_body={"rain": {"max_search_tokens": 1}}).invoke(BAD)
    assert refined.response_metadata["finish_reason"] == "length"
    with pytest.raises(openai.NotFoundError, match="use 'demo'"):
        chat(demo_server, model="another").invoke(GOOD)
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        chat(demo_server, logprobs=True).invoke(GOOD)
    with pytest.raises(openai.BadRequestError, match="n = 100|at most"):
        chat(demo_server, n=100).generate([[HumanMessage(GOOD)]])
