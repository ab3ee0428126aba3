"""Peers before a server: what their answers cost, from a client that is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from real_models.peers import Counted, main, measured, served

from rain_decoding import InputError


class Stub:
    """A client whose every answer cost as many tokens as its request has messages."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.chat = SimpleNamespace(completions=self)

    def create(self, **request: Any) -> Any:
        self.asked.append(request)
        return SimpleNamespace(model_extra={"rain": {"search_tokens": len(request["messages"])}})


def test_costs_are_added_up_and_requests_sent_as_they_are() -> None:
    stub = Stub()
    counted = Counted(stub)  # type: ignore[arg-type]
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant", "system", "user")]
    for sent in (messages, messages[:2]):
        counted.chat.completions.create(model="m", messages=sent, n=3)
    assert (counted.tokens, counted.calls) == (7, 2)
    assert stub.asked[0] == {"model": "m", "messages": messages, "n": 3}


def test_a_row_has_the_tokens_and_requests_of_an_answer() -> None:
    counted = Counted(Stub())  # type: ignore[arg-type]

    def ask(prompt: str) -> object:
        return counted.create(messages=[prompt] * len(prompt))

    asks = {"plain": ask, "twice": lambda prompt: (ask(prompt), ask(prompt))}
    _, _, plain, twice = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in measured(asks, counted, ["a", "abc"], 3)
    )
    assert (plain[0], plain[2:]) == ("plain", ["1.00 (1.00 to 1.00)", "2", "1"])
    assert (twice[0], twice[3:]) == ("twice", ["4", "2"])


def test_the_model_is_served_by_both_names() -> None:
    assert served(["other", "small:plain", "small"]) == "small"
    for names in ([], ["small"], ["small:plain"]):
        with pytest.raises(InputError, match="--client-may plain"):
            served(names)


def test_one_answer_is_too_few_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--n", "1", "--repeats", "1", "--url", "http://nowhere.invalid"])
    assert "two answers" in capsys.readouterr().err
