"""From prompt ids back to the turns that the judge sees."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from custom_generate.tiny_generation import TEMPLATES, Judge, chat_tokenizer, inputs, new_model, own_tokenizer

from rain_decoding import InputError, rain_generate
from rain_decoding.backends.dialogue import default_dialogue_header
from rain_decoding.backends.transformers import wrap
from rain_decoding.custom_generate.reading import read_dialogue, read_prompt
from rain_decoding.prompting import dialogue
from rain_decoding.types import Message

SYSTEM = {"role": "system", "content": "Answer\n\nin rhymes."}
CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    "one": [{"role": "user", "content": "How do I\npick a lock?"}],
    "system": [SYSTEM, {"role": "user", "content": "Hello?"}],
    "turns": [
        {"role": "user", "content": "Human: hi\n\nAssistant: no"},
        {"role": "assistant", "content": "assistant\n\nuser"},
        {"role": "user", "content": "And?\n"},
        {"role": "assistant", "content": "Us3r Aga1n Sy5tem"},
        {"role": "user", "content": " Us3r "},
    ],
}
CONVERSATIONS["all"] = [SYSTEM, *CONVERSATIONS["turns"]]


@pytest.fixture(scope="module")
def backends() -> dict[str, Any]:
    made = {name: wrap(new_model("llama", chat_tokenizer(name)), chat_tokenizer(name)) for name in TEMPLATES}
    return made | {"": wrap(new_model("llama"), own_tokenizer())}


CASES = [
    (template, name)
    for template in TEMPLATES
    for name, messages in CONVERSATIONS.items()
    if messages[0] is not SYSTEM or template not in ("no system message", "instructions")
]


@pytest.mark.parametrize(("template", "conversation"), CASES)
def test_a_chat_is_read_as_it_was_written(template: str, conversation: str, backends: dict[str, Any]) -> None:
    messages = CONVERSATIONS[conversation]
    for thinking in (True, False):
        ids = chat_tokenizer(template).apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=thinking, return_dict=False
        )
        prompt = read_prompt(tuple(ids), backends[template])
        assert prompt.format == "chat" and prompt.tokens == tuple(ids)
        read = [(turn.role, turn.content.strip()) for turn in prompt.turns]
        assert read == [(m["role"], m["content"].strip()) for m in messages if m["role"] != "system"]


def test_control_tokens_that_no_template_explains_are_an_error(backends: dict[str, Any]) -> None:
    template = "chatml"
    ids = chat_tokenizer(template)("<|im_start|>user\nHello<|im_end|>\n[INST]assistant\n")["input_ids"]
    with pytest.raises(InputError, match="does not explain") as caught:
        read_prompt(tuple(ids), backends[template])
    assert "rain_messages=" in caught.value.hint


def test_a_text_for_a_chat_model_stays_a_text(backends: dict[str, Any]) -> None:
    ids = chat_tokenizer("chatml")("The cat sat on")["input_ids"]
    prompt = read_prompt(tuple(ids), backends["chatml"])
    assert (prompt.format, prompt.messages[0].content) == ("text", "The cat sat on")


TURNS = [Message("user", "Hi?"), Message("assistant", "Hello.\n\nWell?"), Message("user", "Bye.")]


@pytest.mark.parametrize("header", ["", "Be kind.\n\nAnd brief."])
def test_a_dialogue_is_read_as_it_was_written(header: str) -> None:
    system = [Message("system", header)] if header else []
    assert list(read_dialogue(dialogue(TURNS, header))) == [*system, *TURNS]
    assert list(read_dialogue(dialogue(TURNS, header) + " \n")) == [*system, *TURNS]


def test_the_built_in_header_is_no_part_of_the_conversation(backends: dict[str, Any]) -> None:
    text = dialogue(TURNS, default_dialogue_header())
    assert list(read_dialogue(text)) == TURNS
    ids = own_tokenizer()(text)["input_ids"]
    assert list(read_prompt(tuple(ids), backends[""]).turns) == TURNS


@pytest.mark.parametrize(
    "text",
    ["Human: Hi?", "Hi?\n\nAssistant:", "Human: Hi?\n\nAssistant: Well", "Human:\n\nAssistant:x", "", "x"],
)
def test_other_texts_are_no_dialogue(text: str) -> None:
    assert read_dialogue(text) == ()


def test_messages_that_are_given_are_what_the_judge_sees() -> None:
    conversations = [[{"role": "user", "content": text}] for text in ("One?", "Two?")]
    judge = Judge()
    options: dict[str, Any] = {
        "rain_criterion": judge,
        "rain_tokenizer": own_tokenizer(),
        "max_new_tokens": 2,
    }
    call = partial(
        new_model("llama").generate, custom_generate=rain_generate, **inputs(["odd", "odd two"]), **options
    )
    call(rain_messages=conversations, num_return_sequences=2, do_sample=True)
    assert [prompt.messages[0].content for prompt in judge.prompts] == ["One?", "One?", "Two?", "Two?"]
    with pytest.raises(InputError, match="comes from the assistant"):
        call(rain_messages=[[{"role": "assistant", "content": "x"}]] * 2)
