"""The tokenizer and chat template of a GGUF file, against transformers' where both have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.gguf.files import BYTES, CONTEXT, load, random_llama
from transformers.utils import chat_template_utils

from rain_decoding.backends.gguf import codec as gguf_codec
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.errors import ConfigError, InputError, UnsupportedError
from rain_decoding.microworld.documents import document
from rain_decoding.types import Message

TEXTS = ["", " ", "Human: hello", " two  spaces, and .dots , 's", "naïve 東京 🙂 x\n\n\tà"]


@pytest.fixture(scope="module")
def demo_codec(demo_file: Path) -> Any:
    return load(demo_file).codec


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A codec that writes "▁" for spaces and puts one before a text."""
    return load(random_llama(tmp_path_factory.mktemp("gguf") / "spaced.gguf")).codec


def test_is_the_tokenizer_of_transformers(demo_codec: Any, demo_backend: LocalBackend) -> None:
    rng = np.random.default_rng(7)
    for text in [*TEXTS, "<|end|> said <|begin|>", *(document(rng).text for _ in range(30))]:
        for start in (True, False):
            assert demo_codec.encode(text, start=start) == demo_backend.codec.encode(text, start=start)
    assert demo_codec.eos == demo_backend.codec.eos
    assert demo_codec.special_texts == demo_backend.codec.special_texts


def test_any_tokens_decode_as_in_transformers(demo_codec: Any, demo_backend: LocalBackend) -> None:
    rng = np.random.default_rng(8)
    for _ in range(300):
        tokens = rng.integers(0, 1500 if rng.random() < 0.5 else 260, size=rng.integers(0, 12)).tolist()
        assert demo_codec.decode(tokens) == demo_backend.codec.decode(tokens)
    tokens = demo_codec.encode("naïve 東京 🙂", start=False)
    for end in range(len(tokens) + 1):
        assert demo_codec.decode(tokens[:end]) == demo_backend.codec.decode(tokens[:end])


@pytest.mark.parametrize("text", ["a cat", " at", "a  a", "tac é 東 🙂", "a\nb", "it is", "smile"])
def test_spaces_and_bytes_come_back_exactly(spaced: Any, text: str) -> None:
    whole = spaced.encode(text)
    assert spaced.decode(whole) == text
    for cut in range(2, len(whole)):  # behind the BOS alone the space would be kept
        # A character cut in two is missing from both parts.
        parts = spaced.decode(whole[:cut]), spaced.decode(whole[cut:])
        assert "".join(parts) == text or any("\ufffd" in part for part in parts)


def test_control_tokens(spaced: Any) -> None:
    assert spaced.special_texts == ("</s>", "<s>", "<think>", "<unk>", "<|eot|>")
    (eot,) = spaced.encode("<|eot|>", start=False)[-1:]
    assert spaced.eos == {2, eot}, "the end of text and the end of turn"
    assert spaced.encode("a")[0] == 1 and 1 not in spaced.encode("a", start=False)
    assert spaced.encode("a</s>", start=False)[-1] == 2
    assert spaced.decode([1, 2, eot, 0]) == ""


def test_a_further_end_of_sequence_by_its_text(tmp_path: Path) -> None:
    file = random_llama(tmp_path / "m.gguf")
    backend = load(file, eos_token="<think>")
    assert len(backend.codec.eos) == 3
    with pytest.raises(ConfigError, match="is not a token"):
        load(file, eos_token="no such token")


TEMPLATES = {
    "chatml": (
        "{% for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim"
        " + '<|im_end|>\\n' }}\n{% endfor %}\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "bos, thinking, loop control": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "[{{ m.role }}]{{ m.content | tojson }}{{ eos_token }}{% endfor %}{% if not enable_thinking %}no{% endif %}"
    ),
    "no system message": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}\n{% endfor %}"
    ),
    "user first": (
        "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ messages[0].content }}"
    ),
}
CONVERSATIONS = [
    [Message("user", "Hi <b> 'é' \"x\"")],
    [Message("system", "Be kind."), Message("user", " Hi ")],
    [Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "1 < 2?")],
    [Message("assistant", "Hello")],
]


@pytest.mark.parametrize("name", TEMPLATES)
def test_chats_are_rendered_as_in_transformers(tmp_path: Path, name: str, demo_backend: LocalBackend) -> None:
    codec = load(random_llama(tmp_path / "m.gguf", template=TEMPLATES[name])).codec
    tokenizer: Any = demo_backend.codec.tokenizer  # type: ignore[attr-defined]
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        chat_template=TEMPLATES[name],
    )
    reference = HFCodec(tokenizer)
    assert codec.has_chat_template
    for messages in CONVERSATIONS:
        for thinking in (True, False):
            assert outcome(codec, messages, thinking) == outcome(reference, messages, thinking)


def outcome(codec: Any, messages: list[Message], thinking: bool) -> str:
    try:
        return codec.render_chat(messages, thinking=thinking)
    except InputError as error:
        return f"refused: {error}"


def test_no_template_or_a_broken_one(tmp_path: Path, demo_codec: Any) -> None:
    assert not demo_codec.has_chat_template
    with pytest.raises(UnsupportedError, match="dialogue"):
        demo_codec.render_chat(CONVERSATIONS[0], thinking=False)
    broken = load(random_llama(tmp_path / "m.gguf", template="{% for %}"))
    with pytest.raises(UnsupportedError, match="cannot be read"):
        broken.codec.render_chat(CONVERSATIONS[0], thinking=False)
    hostile = load(random_llama(tmp_path / "h.gguf", template="{{ messages.__class__.__mro__ }}"))
    with pytest.raises(InputError, match="rejects"):
        hostile.codec.render_chat(CONVERSATIONS[0], thinking=False)


def test_the_random_model_has_room_for_bytes(tmp_path: Path) -> None:
    backend = load(random_llama(tmp_path / "m.gguf"))
    assert backend.context_length == CONTEXT
    assert len({backend.codec.encode(text, start=False) for text in BYTES}) == 256


EXTENDED = [
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}\n{% endif %}{% endfor %}",
    "{{ messages[0].content | tojson(ensure_ascii=False) }}",
    "{{ messages[0] | tojson(indent=2, sort_keys=True) }}",
    "{{ messages | tojson(separators=(',', ':'), ensure_ascii=True) }}",
    "{% if tools is none %}none{% endif %}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x"
    "{% endfor %}",
    "{% set ns = namespace(a=1) %}{% generation %}{% set ns.a = 2 %}{{ messages[0].role }}{% endgeneration %}"
    "{{ ns.a }}",
]


@pytest.mark.parametrize("template", EXTENDED)
def test_templates_render_as_in_transformers_with_and_without_it(template: str) -> None:
    values = {
        "messages": [{"role": "user", "content": "hé <b> 或"}, {"role": "assistant", "content": "So."}],
        "tools": None,
    }
    theirs = chat_template_utils._compile_jinja_template(template).render(**values)
    assert gguf_codec._compiled(template).render(**values) == theirs
    assert gguf_codec._environment().from_string(template).render(**values) == theirs
