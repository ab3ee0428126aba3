"""Replies of all shapes as the same values, and pieces of text that make the text."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain_decoding.backends.openai.wire import (
    BadReply,
    Choice,
    Cost,
    Token,
    pieces_of,
    problem_in,
    read_choices,
    read_cost,
)

ENDED = {"index": 0, "finish_reason": "length"}
LISTED = {
    "text_offset": [0, 4],
    "tokens": [" Yes", "."],
    "token_logprobs": [-0.5, -0.25],
    "top_logprobs": [{" Yes": -0.5, " No": -1.0}, {".": -0.25}],
}
YES = {"id": 5, "token": " Yes", "bytes": [32, 89, 101, 115], "logprob": -0.5}
NO = {"id": 6, "token": " No", "bytes": [32, 78, 111], "logprob": -1.0}
DOT = {"id": 7, "token": ".", "bytes": [46], "logprob": -0.25}
OBJECTS = {"content": [YES | {"top_logprobs": [YES, NO]}, DOT | {"top_logprobs": [DOT]}]}
LISTS = ENDED | {"text": " Yes.", "logprobs": LISTED}
LLAMA = ENDED | {"text": " Yes.", "logprobs": OBJECTS}
CHAT = ENDED | {"message": {"role": "assistant", "content": " Yes."}, "logprobs": OBJECTS}
DELTA = ENDED | {"delta": {"content": " Yes."}, "logprobs": OBJECTS}
EXPECTED = Choice(
    " Yes.", (Token(" Yes", -0.5, {" Yes": -0.5, " No": -1.0}), Token(".", -0.25, {".": -0.25})), "length"
)


@pytest.mark.parametrize("shape", [LISTS, LLAMA, CHAT, DELTA])
def test_all_shapes_are_one_value(shape: dict[str, Any]) -> None:
    assert read_choices({"choices": [shape]}) == [EXPECTED]


def test_without_log_probabilities() -> None:
    # Ollama (openai.go, CompleteChunkChoice) and TGI have none in completions; llama-server writes null at the end.
    for extra in ({}, {"logprobs": None}):
        (choice,) = read_choices({"choices": [{"text": "a", "index": 0, "finish_reason": "stop", **extra}]})
        assert choice == Choice("a", (), "stop")


def test_an_event_of_a_stream_may_have_no_text_and_a_reply_may_not() -> None:
    last = {"choices": [{"index": 0, "finish_reason": "stop"}]}  # LiteLLM, at the end of a stream
    assert read_choices(last, streamed=True) == [Choice("", (), "stop")]
    with pytest.raises(BadReply):
        read_choices(last)


def test_what_is_left_after_sampling() -> None:
    # llama-server with post_sampling_probs
    listed = [{"token": "A", "prob": 0.75}, {"token": "B", "prob": 0}]
    entry = {"id": 1, "token": "A", "bytes": [65], "prob": 0.75, "top_probs": listed}
    (choice,) = read_choices(
        {"choices": [{"text": "A", "logprobs": {"content": [entry]}, "finish_reason": "stop"}]}
    )
    assert choice.tokens == (Token("A", log(0.75), {"A": log(0.75), "B": float("-inf")}),)


def test_choices_come_in_their_order_and_streams_have_events_without_any() -> None:
    texts = [{"text": text, "index": index, "finish_reason": None} for index, text in ((1, "b"), (0, "a"))]
    assert [choice.text for choice in read_choices({"choices": texts})] == ["a", "b"]
    assert read_choices({"choices": [], "usage": {"prompt_tokens": 1}}) == []


@pytest.mark.parametrize(
    "data", [None, [], {}, {"choices": 1}, {"choices": [{}]}, {"choices": [{"text": None}]}]
)
def test_other_shapes_are_bad_replies(data: Any) -> None:
    with pytest.raises(BadReply):
        read_choices(data)


USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        ({"usage": USAGE}, Cost(9, 2)),
        ({"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 8}}}, Cost(1, 2, 8)),
        ({"usage": USAGE | {"prompt_tokens_details": None}}, Cost(9, 2)),
        ({"usage": None, "timings": {"cache_n": 8, "prompt_n": 1, "predicted_n": 2}}, Cost(1, 2, 8)),
        ({}, Cost()),
        (None, Cost()),
    ],
)  # fmt: skip
def test_costs(data: Any, cost: Cost) -> None:
    assert read_cost(data) == cost


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"message": "why", "type": "x", "code": 400}},  # OpenAI, llama-server, newer vLLM
        {"object": "error", "message": "why", "type": "x", "code": 400},  # older vLLM, SGLang
        {"error": "why", "error_type": "validation"},  # TGI
        {"detail": "why"},  # FastAPI
        "why",
    ],
)
def test_problems(data: Any) -> None:
    assert problem_in(data) == "why"


WHOLE = st.text(min_size=1, max_size=4)


@given(st.lists(WHOLE, max_size=5), st.data())
def test_pieces_make_the_text(texts: list[str], data: st.DataObject) -> None:
    """Whatever tokens a server shows beside a text: parts of characters, spaces lost, an end of sequence."""
    tokens = []
    for text in texts:
        shown = data.draw(st.sampled_from([text, text.strip(), "\ufffd", ""]))
        tokens.append(Token(shown, -1.0))
    tokens += data.draw(st.sampled_from([[], [Token("</s>", -1.0)]]))
    pieces = pieces_of(Choice("".join(texts), tuple(tokens), None))
    assert "".join(piece.text for piece in pieces) == "".join(texts)
    assert all(piece.text for piece in pieces)


def test_tokens_that_agree_with_the_text_stay_apart() -> None:
    tokens = (
        Token(" a", -1.0),
        Token("\ufffd", -2.0),
        Token("\ufffd", -3.0),
        Token(" b", -4.0),
        Token("</s>", -5.0),
    )
    pieces = pieces_of(Choice(" a\u00e9 b", tokens[:4], None))
    assert [(piece.text, piece.logprob) for piece in pieces] == [(" a", -1.0), ("\u00e9", -5.0), (" b", -4.0)]
    assert [piece.text for piece in pieces_of(Choice(" a b", (tokens[0], *tokens[3:]), None))] == [" a", " b"]
    assert [piece.text for piece in pieces_of(Choice(" a b.", (), None))] == [" a", " b", "."]
