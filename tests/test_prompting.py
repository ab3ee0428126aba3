"""From text or messages to what generation starts from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from self_evaluation import judges

from rain_decoding.backends.dialogue import default_dialogue_header
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.decoding.session import Options
from rain_decoding.errors import ContextLengthError, InputError, UnsupportedError
from rain_decoding.prompting import build_prompt, parse_messages, stop_strings
from rain_decoding.types import Message


def backend(tokenizer: Any, *, context: int = 10_000, header: str = "") -> Any:
    """As much of a backend as prompts need."""
    return SimpleNamespace(
        codec=HFCodec(tokenizer), context_length=context, name="tiny", dialogue_header=header
    )


PLAIN, LLAMA = backend(judges.tokenizer("byte-level")), backend(judges.tokenizer("llama-like"))
CHAT = backend(judges.byte_level(judges.CHAT))
MESSAGES = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": " Hello?"},
    Message("assistant", "Hi."),
    SimpleNamespace(role="user", content="How are you?"),
]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("dough", ("dough",)),
        (["dough", "oven", "dough"], ("dough", "oven")),
        (None, ()),
        ("", ()),
        ([""], ()),
        (("", " "), (" ",)),
    ],
)
def test_stop_strings_are_one_or_several(given: Any, read: tuple[str, ...]) -> None:
    assert stop_strings(given) == read
    assert build_prompt("Hello?", PLAIN, stop=given).markers[1:] == read
    assert Options(stop=given).stop == read


@pytest.mark.parametrize("given", [3, [3], [None], b"dough", "\ud800"])
def test_other_stop_strings_are_refused(given: Any) -> None:
    with pytest.raises(InputError, match="stop"):
        stop_strings(given)


def test_a_text_becomes_a_turn_of_a_dialogue() -> None:
    prompt = build_prompt("Hello?", PLAIN)
    assert prompt.format == "dialogue"
    assert prompt.text == "Human: Hello?\n\nAssistant:"
    assert prompt.messages == prompt.turns == (Message("user", "Hello?"),)
    assert prompt.markers == ("\nHuman:",)
    assert prompt.strip
    assert list(prompt.tokens) == judges.tokenizer("byte-level")(prompt.text)["input_ids"]


def test_a_conversation_with_a_system_prompt_becomes_a_dialogue() -> None:
    prompt = build_prompt(MESSAGES, backend(judges.tokenizer("byte-level"), header="Two talk.\n\n"))
    assert prompt.text == (
        "Two talk.\n\nBe brief.\n\nHuman: Hello?\n\nAssistant: Hi.\n\nHuman: How are you?\n\nAssistant:"
    )
    assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "user"]
    assert [message.role for message in prompt.turns] == ["user", "assistant", "user"]


def test_a_system_message_may_stand_anywhere_before_the_question() -> None:
    late = [*MESSAGES[1:3], {"role": "system", "content": "Be kind."}, MESSAGES[3]]
    prompt = build_prompt(late, PLAIN)
    assert prompt.text == "Human: Hello?\n\nAssistant: Hi.\n\nBe kind.\n\nHuman: How are you?\n\nAssistant:"
    assert [message.role for message in prompt.turns] == ["user", "assistant", "user"]
    assert build_prompt(late, CHAT).text == (
        "<|user|>\n Hello?<|end|>\n<|assistant|>\nHi.<|end|>\n<|system|>\nBe kind.<|end|>\n"
        "<|user|>\nHow are you?<|end|>\n<|assistant|>\n"
    )
    with pytest.raises(InputError, match="last message comes from the system"):
        build_prompt([*late, MESSAGES[0]], PLAIN)


def test_without_a_header_of_its_own_a_backend_gets_the_default_one() -> None:
    header = default_dialogue_header()
    prompt = build_prompt(
        "Hello?", judges.backend(judges.tokenizer("byte-level"), context=10_000, dialogue_header=None)
    )
    assert prompt.text == f"{header.strip()}\n\nHuman: Hello?\n\nAssistant:"
    assert header.count("Human:") == header.count("Assistant:") > 2
    assert prompt.messages == (Message("user", "Hello?"),)


def test_chat_models_get_their_template() -> None:
    prompt = build_prompt(MESSAGES, CHAT)
    assert prompt.format == "chat"
    assert prompt.text == (
        "<|system|>\nBe brief.\n<|end|>\n<|user|>\n Hello?<|end|>\n<|assistant|>\nHi.<|end|>\n"
        "<|user|>\nHow are you?<|end|>\n<|assistant|>\n"
    )
    assert prompt.markers == ()
    assert prompt.strip
    assert build_prompt("Hello?", CHAT, prompt_format="dialogue").text == "Human: Hello?\n\nAssistant:"


@pytest.mark.parametrize("thinking", [True, False])
def test_templates_are_told_whether_to_think(thinking: bool) -> None:
    prompt = build_prompt("Hello?", backend(judges.byte_level(judges.SWITCHED)), thinking=thinking)
    assert prompt.text.endswith("<|assistant|>\n" + ("" if thinking else "<think>\n\n</think>\n\n"))


def test_a_text_is_continued_as_it_stands() -> None:
    prompt = build_prompt(" The film was\n", LLAMA, prompt_format="text")
    assert prompt.text == " The film was\n"
    assert not prompt.strip
    assert prompt.markers == ()
    assert list(prompt.tokens) == judges.tokenizer("llama-like")(prompt.text)["input_ids"]
    assert prompt.tokens[0] == 1, "begins with BOS"
    with pytest.raises(InputError, match="continues one text"):
        build_prompt(MESSAGES, LLAMA, prompt_format="text")


def test_the_next_turn_need_not_end_an_answer_and_stop_strings_do() -> None:
    assert build_prompt("Hi", PLAIN, next_turn_ends=False).markers == ()
    assert build_prompt("Hi", PLAIN, stop=("###", "结束")).markers == ("\nHuman:", "###", "结束")
    assert build_prompt("Hi", CHAT, stop="###").markers == ("###",)
    for broken in ((1,), ("a", None)):
        with pytest.raises(InputError, match="stop = "):
            build_prompt("Hi", PLAIN, stop=broken)  # type: ignore[arg-type]


def test_unknown_formats_and_missing_templates_are_errors() -> None:
    with pytest.raises(InputError, match=r"'xml'.*auto, chat, dialogue, text"):
        build_prompt("Hi", PLAIN, prompt_format="xml")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"no chat template.*dialogue"):
        build_prompt("Hi", PLAIN, prompt_format="chat")


BROKEN: dict[str, tuple[Any, str]] = {
    "empty": ("", "prompt is empty"),
    "blank": (" \n\t", "prompt is empty"),
    "half a surrogate pair": ("a\ud800b", "prompt is not valid Unicode"),
    "none": (None, "messages = None"),
    "a number": (3, "messages = 3"),
    "a single message": ({"role": "user", "content": "x"}, "messages = "),
    "no messages": ([], r"messages = \[\]"),
    "bytes": (b"Hello", r"messages\[0\]"),
    "a message without role": ([{"content": "x"}], r"messages\[0\].role = None"),
    "an unknown role": ([{"role": "tool", "content": "x"}], r"messages\[0\].role = 'tool'.*system, user"),
    "an unhashable role": ([{"role": ["user"], "content": "x"}], r"messages\[0\].role = "),
    "a message without content": ([{"role": "user"}], r"messages\[0\].content = None"),
    "content in parts": ([{"role": "user", "content": [{"text": "x"}]}], r"messages\[0\].content"),
    "empty content": ([MESSAGES[1], MESSAGES[2], {"role": "user", "content": " "}], r"messages\[2\].content"),
    "half a surrogate pair in a message": (
        [{"role": "user", "content": "\udfff"}],
        r"messages\[0\].content is not valid Unicode",
    ),
    "a text among messages": (["Hello"], r"messages\[0\].role"),
    "the assistant last": (MESSAGES[:3], "last message comes from the assistant"),
    "only a system prompt": (MESSAGES[:1], "last message comes from the system"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_prompts_are_refused_with_what_is_wrong(case: str) -> None:
    prompt, message = BROKEN[case]
    with pytest.raises(InputError, match=message) as caught:
        build_prompt(prompt, PLAIN)
    assert caught.value.hint


def test_an_assistants_turn_may_be_empty() -> None:
    messages = [MESSAGES[1], {"role": "assistant", "content": ""}, MESSAGES[1]]
    assert parse_messages(messages)[1] == Message("assistant", "")
    assert build_prompt(messages, PLAIN).text == "Human: Hello?\n\nAssistant: \n\nHuman: Hello?\n\nAssistant:"


@pytest.mark.parametrize("served", [PLAIN, LLAMA, CHAT])
def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths(served: Any) -> None:
    length = len(build_prompt("word " * 50, served).tokens)
    for context, fits in ((length + 1, True), (length, False), (length - 1, False), (1, False)):
        small = SimpleNamespace(**{**vars(served), "context_length": context})
        if fits:
            assert len(build_prompt("word " * 50, small).tokens) == length
            continue
        with pytest.raises(ContextLengthError, match=rf"{length} tokens long.*tiny.*context of {context}\b"):
            build_prompt("word " * 50, small)


CONTROL = [
    *judges.CHAT_TOKENS,
    "<|END|>",
    "<|end|",
    "<<|end|>|end|>",
    "<|",
    "user",
    "|>",
    "\n",
    " ",
    "🙂",
    "你",
]


@pytest.mark.parametrize("form", ["chat", "dialogue", "text"])
@given(text=st.lists(st.sampled_from(CONTROL), min_size=1, max_size=8).map("".join).filter(str.strip))
@settings(max_examples=40, deadline=None)
def test_a_prompt_cannot_smuggle_in_control_tokens(form: Any, text: str) -> None:
    control = set(CHAT.codec.tokenizer.convert_tokens_to_ids(judges.CHAT_TOKENS))

    def controls(prompt: str) -> list[int]:
        return [token for token in build_prompt(prompt, CHAT, prompt_format=form).tokens if token in control]

    assert controls(text) == controls("x")
    bare = build_prompt(text, CHAT, prompt_format=form).messages[0].content
    assert "".join(bare.split()) == "".join(text.split())
