"""Streamed pieces are whole characters, hold no part of a marker, and add up to the final text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from self_evaluation import judges

from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.decoding.text_stream import TextStream, answer_text
from rain_decoding.prompting import Prompt
from rain_decoding.types import Message

CODECS = {kind: HFCodec(judges.tokenizer(kind)) for kind in judges.TOKENIZERS}
MARKERS = ("\nHuman:", "###", "结束了", "🙂🙃")
PIECES = [
    "\n",
    "Hum",
    "Human:",
    "\nHuman:",
    "#",
    "##",
    "结",
    "束",
    "了",
    "🙂",
    "🙃",
    "👩‍🚀",
    "🇩🇪",
    " ",
    "  ",
    "a",
    "é",
    "你好",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=14).map("".join)


def prompt(*, markers: tuple[str, ...] = MARKERS, strip: bool = True) -> Prompt:
    return Prompt("dialogue" if strip else "text", (Message("user", "x"),), "x", (), markers, strip)


def finished(text: str, asked: Prompt) -> str:
    """The reference: the text up to the first marker."""
    end = min((text.index(marker) for marker in asked.markers if marker in text), default=len(text))
    return text[:end].strip() if asked.strip else text[:end]


def streamed(codec: Any, asked: Prompt, tokens: tuple[int, ...], lengths: list[int]) -> list[str]:
    stream = TextStream(codec, asked)
    pieces, position = [], 0
    for length in lengths:
        position = min(position + length, len(tokens))
        pieces.append(stream.push(tokens[:position]))
    return [*pieces, stream.push(tokens, final=True)]


@pytest.mark.parametrize("kind", CODECS)
@given(text=TEXTS, lengths=st.lists(st.integers(1, 7), max_size=60), strip=st.booleans())
@example(text="你好🙂\nHum", lengths=[1] * 40, strip=True)
@example(text="a \n\nHuman: b", lengths=[1] * 40, strip=True)
@example(text="结束 结束了 more", lengths=[1] * 40, strip=False)
@settings(max_examples=120, deadline=None)
def test_pieces_add_up_to_the_final_text(kind: str, text: str, lengths: list[int], strip: bool) -> None:
    codec, asked = CODECS[kind], prompt(strip=strip)
    text = text.replace("\ufffd", "")
    tokens = codec.encode(text, start=False)
    expected = finished(codec.decode(tokens), asked)
    pieces = streamed(codec, asked, tokens, lengths)
    assert "".join(pieces) == expected == answer_text(codec, asked, tokens)
    assert not any("\ufffd" in piece for piece in pieces)
    if kind == "byte-level":
        assert expected == finished(text, asked)


@pytest.mark.parametrize("kind", CODECS)
@given(text=TEXTS, cut=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_text_that_ends_within_a_character_ends_before_it(kind: str, text: str, cut: int) -> None:
    codec, asked = CODECS[kind], prompt(markers=(), strip=False)
    tokens = codec.encode(text.replace("\ufffd", ""), start=False)[:cut]
    pieces = streamed(codec, asked, tokens, [1] * cut)
    assert not any("\ufffd" in piece for piece in pieces)
    whole = codec.decode(codec.encode(text.replace("\ufffd", ""), start=False))
    assert whole.startswith("".join(pieces))
    assert "".join(pieces) == answer_text(codec, asked, tokens)


@given(bytes_=st.lists(st.sampled_from([0x41, 0x20, 0xE4, 0xB8, 0xAD, 0xFF, 0xC3, 0xA9]), max_size=14))
@example(bytes_=[0xE4, 0xB8, 0xAD, 0xFF, 0x41])
@settings(max_examples=150, deadline=None)
def test_bytes_that_are_no_characters_are_streamed_as_they_stand_in_the_answer(bytes_: list[int]) -> None:
    codec, asked = CODECS["llama-like"], prompt(markers=(), strip=False)
    tokens = tuple(codec.tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in bytes_)
    tokens += codec.encode(" end", start=False)
    pieces = streamed(codec, asked, tokens, [1] * len(tokens))
    assert "".join(pieces) == answer_text(codec, asked, tokens)
    assert "".join(pieces).startswith(bytes(bytes_).decode("utf-8", "replace"))


@given(text=TEXTS, future=TEXTS)
@settings(max_examples=100, deadline=None)
def test_what_was_shown_is_never_taken_back(text: str, future: str) -> None:
    codec, asked = CODECS["byte-level"], prompt()
    text, future = text.replace("\ufffd", ""), future.replace("\ufffd", "")
    tokens = codec.encode(text)
    shown = TextStream(codec, asked).push(tokens)
    assert finished(text + future, asked).startswith(shown)


def test_nothing_useful_is_held_back() -> None:
    codec = CODECS["byte-level"]
    stream = TextStream(codec, prompt())
    shown = []
    for text in (
        "Hello",
        "Hello\n",
        "Hello\nHum",
        "Hello\nHumble",
        "Hello\nHumble pie.",
        "Hello\nHumble pie.\nHuman: x",
    ):
        shown.append(stream.push(codec.encode(text)))
    assert shown == ["Hello", "", "", "\nHumble", " pie.", ""]
    assert stream.push(codec.encode("Hello\nHumble pie.\nHuman: x"), final=True) == ""


def test_a_marker_that_did_not_come_is_shown_at_the_end() -> None:
    codec = CODECS["byte-level"]
    stream = TextStream(codec, prompt(strip=False))
    assert stream.push(codec.encode("a ##")) == "a "
    assert stream.push(codec.encode("a ##"), final=True) == "##"


def test_the_earliest_marker_cuts() -> None:
    codec = CODECS["byte-level"]
    assert answer_text(codec, prompt(), codec.encode(" a ### b \nHuman: c")) == "a"
    assert answer_text(codec, prompt(), codec.encode(" a \nHuman: b ### c")) == "a"
    assert answer_text(codec, prompt(strip=False), codec.encode(" a ### b")) == " a "
    assert answer_text(codec, prompt(), ()) == ""
