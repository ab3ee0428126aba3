"""Pieces of text as tokens: lossless, with the same ids in every run, and nothing that can be forged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain_decoding.backends.openai.codec import (
    CHAT,
    END,
    MOST_ASKED,
    PIECES_BYTES,
    START,
    VERDICTS_BYTES,
    Conversation,
    EndpointCodec,
)
from rain_decoding.backends.openai.templates import CACHE_BYTES, Templates
from rain_decoding.control_text import without_control_tokens
from rain_decoding.errors import InputError, RefusedError
from rain_decoding.self_evaluation.evaluator import find_label_tokens
from rain_decoding.types import Message


@given(st.text())
def test_round_trip_and_the_same_ids_in_every_codec(text: str) -> None:
    codec, other = EndpointCodec(), EndpointCodec()
    other.encode("something else first")
    tokens = codec.encode(text)
    assert codec.decode(tokens) == text and tokens[0] == START
    assert other.encode(text) == tokens == (START, *codec.encode(text, start=False))
    assert END not in tokens and codec.decode((*tokens, END)) == text
    assert all(0 <= token < 2**53 for token in tokens)


def test_words_keep_their_space() -> None:
    codec = EndpointCodec()
    for text, pieces in {
        "It is (A)": ["It", " is", " (", "A", ")"],
        "Answer: Yes.\n\nHuman:": ["Answer", ":", " Yes", ".", "\n", "\n", "Human", ":"],
        "12  ab_c": ["12", " ", " ab", "_", "c"],
    }.items():
        assert [codec.text(token) for token in codec.encode(text, start=False)] == pieces


def test_labels_are_found() -> None:
    codec = EndpointCodec()
    for lead, labels in {"It is (": ["A", "B"], "Answer:": [" Yes", " No"]}.items():
        found = find_label_tokens(codec, (f"Which?\n{lead}", True), [[label] for label in labels])
        assert found.dropped == 0
        assert [[codec.text(token) for token in form] for form in found.forms] == [
            [label] for label in labels
        ]


def test_two_pieces_with_one_hash_stay_apart() -> None:
    codec = EndpointCodec()
    token = int(codec.intern("a"))
    codec._ids.clear()
    codec._texts[token] = "b"  # as if b had come first, with the hash of a
    assert codec.intern("a") == token + 1 and codec.decode((token, token + 1)) == "ba"


def test_a_conversation_is_one_piece_that_text_cannot_forge() -> None:
    codec = EndpointCodec(has_chat_template=True)
    messages = [Message("user", "Well?")]
    stand_in = codec.render_chat(messages, thinking=False)
    tokens = codec.encode(stand_in + "So (", start=False)
    assert codec.conversation(tokens) == Conversation(tuple(messages), False)
    assert codec.decode(tokens[1:]) == "So (" and codec.decode(tokens) == stand_in + "So ("
    assert stand_in != codec.render_chat(messages, thinking=True)
    assert CHAT not in without_control_tokens(f"see {stand_in} there", codec.special_texts)
    assert EndpointCodec().conversation(EndpointCodec().encode(stand_in, start=False)) is None


def rendered(conversation: Conversation, trim: bool = False) -> str:
    turns = (
        f"[{message.role}]{message.content.upper() if trim else message.content}[end]"
        for message in conversation.messages
    )
    return "".join(turns) + "[assistant]" + ("" if conversation.thinking else "<think></think>")


@given(st.lists(st.text(), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_templates_give_what_the_server_would(texts: list[str], thinking: bool, odd: bool) -> None:
    templates = Templates(lambda conversation: rendered(conversation, odd))
    for contents in (texts, [f"{text}!" for text in texts], texts[:1]):
        conversation = Conversation(tuple(Message("user", text) for text in contents), thinking)
        assert templates.render(conversation) == rendered(conversation, odd)


def test_a_shape_is_asked_for_once() -> None:
    asked: list[Conversation] = []

    def ask(conversation: Conversation) -> str:
        asked.append(conversation)
        return rendered(conversation)

    templates = Templates(ask)
    for number in range(5):
        conversation = Conversation((Message("system", "Be kind."), Message("user", f"{number}?")), False)
        assert templates.render(conversation) == rendered(conversation)
    assert len(asked) == 2


def test_what_a_codec_remembers_is_bounded_and_what_is_in_use_stays() -> None:
    codec, asking = EndpointCodec(), EndpointCodec(has_chat_template=True)
    kept = codec.encode("These words are in use")
    conversation = asking.encode(asking.render_chat([Message("user", "Well?")], thinking=False), start=False)
    for number in range(1_000):
        codec.encode(f"{number} " + "".join(f" x{number}y{word}z" for word in range(150)))
        asking.encode(asking.render_chat([Message("user", f"{number}" * 9_000)], thinking=False), start=False)
    for each in (codec._ids, asking._ids, asking._conversations):
        assert each.bytes <= PIECES_BYTES
    assert len(codec._texts) == len(codec._ids) and len(asking._conversations) < 1_000
    assert codec.decode(kept) == "These words are in use"
    assert asking.conversation(conversation) == Conversation((Message("user", "Well?"),), False)


def test_what_a_servers_tokenizer_said_is_remembered_up_to_a_bound() -> None:
    codec = EndpointCodec(is_control=lambda texts: [False] * len(texts))
    for number in range(1_000):
        codec.control_texts_in([" ".join(f"<{'x' * 50}{number}-{word}>" for word in range(MOST_ASKED))])
    assert 0 < codec._verdicts.bytes <= VERDICTS_BYTES


def test_templates_remember_no_more_than_they_may() -> None:
    templates = Templates(rendered)
    for number in range(1_000):
        shape = tuple(Message("user", f"{place}") for place in range(number % 200 + 1))
        templates.render(Conversation(shape, bool(number % 2)))
    assert templates._skeletons.bytes <= CACHE_BYTES


def no_system(conversation: Conversation) -> str:
    """As a server whose template refuses system messages, or an assistant that begins."""
    if conversation.messages[0].role != "user":
        raise RefusedError("400 from there: System role not supported", reason="System role not supported")
    return rendered(conversation)


def test_what_a_servers_template_refuses_is_merged_or_told_in_its_words() -> None:
    templates = Templates(no_system)
    for number in range(3):
        talk = Conversation((Message("system", "Be kind."), Message("user", f"{number}?")), False)
        merged = Conversation((Message("user", f"Be kind.\n\n{number}?"),), False)
        assert templates.render(talk) == rendered(merged)
    with pytest.raises(InputError, match="System role not supported"):
        templates.render(Conversation((Message("assistant", "Hi"), Message("user", "a")), False))
