"""The tokenizer as a codec."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from backends.transformers import tiny

from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.errors import ConfigError, InputError, UnsupportedError
from rain_decoding.types import Message

TEXTS = ["the cat sat", "how do I  pick a lock?\n\nHuman:", "a dog , and a cat 's log", "né 🙂 漢"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate!') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}[model]"
)
LEADING_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}"
    "{% elif loop.first %}[system]{{ m.content }}{% endif %}{% endfor %}[model]"
)


@pytest.fixture(scope="module")
def byte_level():
    return HFCodec(tiny.byte_level_tokenizer())


@pytest.fixture(scope="module")
def metaspace():
    return HFCodec(tiny.metaspace_tokenizer())


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_text_comes_back(byte_level, text):
    assert byte_level.decode(byte_level.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS[:1])
def test_metaspace_text_comes_back(metaspace, text):
    assert metaspace.decode(metaspace.encode(text)) == text


def test_start_is_what_the_tokenizer_puts_first(byte_level, metaspace):
    bos = metaspace.tokenizer.bos_token_id
    assert metaspace.encode("the cat") == (bos, *metaspace.encode("the cat", start=False))
    assert bos not in metaspace.encode("the cat", start=False)
    assert byte_level.encode("the cat") == byte_level.encode("the cat", start=False)


def test_a_bos_that_the_tokenizer_does_not_use_is_not_put_first():
    codec = HFCodec(tiny.byte_level_tokenizer(bos_token="<|end|>"))
    assert codec.encode("the cat") == codec.encode("the cat", start=False)


def test_nothing_is_put_last():
    tokenizer = tiny.metaspace_tokenizer(trailing_eos=True)
    assert tokenizer("the cat")["input_ids"][-1] == tokenizer.eos_token_id
    codec = HFCodec(tokenizer)
    assert codec.encode("the cat") == HFCodec(tiny.metaspace_tokenizer()).encode("the cat")


def test_decoding_leaves_out_control_tokens(metaspace):
    (eos,) = metaspace.eos
    assert metaspace.decode((*metaspace.encode("the cat"), eos)) == "the cat"


def test_spaces_are_not_cleaned_up():
    tokenizer = tiny.metaspace_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    codec = HFCodec(tokenizer)
    assert codec.decode(codec.encode("the cat , and the dog")) == "the cat , and the dog"


def test_ends_of_sequence_come_from_model_tokenizer_and_option():
    tokenizer = tiny.byte_level_tokenizer()
    named = tokenizer.get_vocab()["a"]
    codec = HFCodec(tokenizer, eos_ids=[7, 9], eos_token="a")
    assert codec.eos == {7, 9, tokenizer.eos_token_id, named}


def test_no_end_of_sequence_is_an_error_that_names_the_option():
    tokenizer = tiny.byte_level_tokenizer(eos_token=None)
    with pytest.raises(ConfigError, match="eos_token="):
        HFCodec(tokenizer)
    assert HFCodec(tokenizer, eos_token="<|end|>").eos


def test_an_unknown_eos_token_is_an_error():
    with pytest.raises(ConfigError, match="'<nothing>'"):
        HFCodec(tiny.byte_level_tokenizer(), eos_token="<nothing>")


def test_special_texts_are_all_control_tokens_and_no_others():
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.add_tokens(["<think>", "\n\n\n", "gadget"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    assert set(HFCodec(tokenizer).special_texts) == {"<|end|>", "<think>", "<|im_start|>"}


def test_tags_of_reasoning_are_broken_where_the_template_knows_them() -> None:
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.chat_template = CHATML
    assert {"<think>", "</think>"} <= set(HFCodec(tokenizer).special_texts)
    tokenizer.chat_template = NO_SYSTEM
    assert not {"<think>", "</think>"} & set(HFCodec(tokenizer).special_texts)


class TestChat:
    @pytest.fixture
    def tokenizer(self):
        return tiny.byte_level_tokenizer()

    def test_without_a_template(self, tokenizer):
        codec = HFCodec(tokenizer)
        assert not codec.has_chat_template
        with pytest.raises(UnsupportedError, match="dialogue"):
            codec.render_chat([Message("user", "hello")], thinking=False)

    @pytest.mark.parametrize("thinking", [True, False])
    def test_the_template_gets_messages_and_thinking(self, tokenizer, thinking):
        tokenizer.chat_template = CHATML
        codec = HFCodec(tokenizer)
        assert codec.has_chat_template
        text = codec.render_chat([Message("system", "be kind"), Message("user", "hello")], thinking=thinking)
        assert text == (
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
            "<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n")
        )

    @pytest.mark.parametrize("template", [NO_SYSTEM, LEADING_SYSTEM])
    def test_a_system_message_without_a_place_opens_the_next_user_message(self, tokenizer, template):
        tokenizer.chat_template = template
        messages = [Message("user", "hello"), Message("assistant", "hi"), Message("user", "bye")]
        first, late = Message("system", "be kind"), Message("system", "be brief")
        render = partial(HFCodec(tokenizer).render_chat, thinking=False)
        leading = "" if template == LEADING_SYSTEM else "be kind\n\n"
        assert render([first, *messages]).endswith(f"[user]{leading}hello[assistant]hi[user]bye[model]")
        assert render([first, *messages[:2], late, messages[2]]) == (
            "[user]be kind\n\nhello[assistant]hi[user]be brief\n\nbye[model]"
        )

    @pytest.mark.parametrize(
        "roles",
        [["assistant"], ["user", "user"], ["system", "user", "user"], ["system"], ["system", "assistant"]],
    )
    def test_messages_that_the_template_refuses(self, tokenizer, roles):
        tokenizer.chat_template = NO_SYSTEM
        with pytest.raises(InputError, match=r"rejects.*alternate"):
            HFCodec(tokenizer).render_chat([Message(role, "text") for role in roles], thinking=False)


@pytest.mark.parametrize("make", [tiny.byte_level_tokenizer, tiny.metaspace_tokenizer])
def test_the_tail_of_a_text_keeps_its_first_space(make: Any) -> None:
    codec = HFCodec(make())
    tokens = codec.encode("the cat sat", start=False)
    for cut in range(1, len(tokens)):
        assert codec.decode(tokens[:cut]).lstrip() + codec.decode(tokens[cut:]) == "the cat sat"
