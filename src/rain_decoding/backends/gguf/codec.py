"""`GgufCodec`: the tokenizer and chat template inside a GGUF file as the backend's codec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from rain_decoding.backends.base import OwnVocabulary, closed
from rain_decoding.backends.chat_template import CONTROL, render_or_merge, template_marks, thinking_tags
from rain_decoding.errors import ConfigError, UnsupportedError
from rain_decoding.types import Message, Tokens

# Attributes of llama.cpp's tokens (LLAMA_TOKEN_ATTR_*).
UNKNOWN_ATTR, CONTROL_ATTR, USER_ATTR, BYTE_ATTR = 1, 8, 16, 32


class Gone:
    """In place of the vocabulary of a model that was given back."""

    def __getattr__(self, _: str) -> Any:
        raise closed("the model")


class GgufCodec(OwnVocabulary):
    """Implements `backends.base.Codec` over a `LlamaModel`.

    Raises `ConfigError` if no end of sequence is known.
    """

    def __init__(self, model: Any, *, eos_token: str | None = None):
        """`eos_token` names an end of sequence beside the file's own (end of text, of turn, of message)."""
        self.model: Any = model  # which the vocabulary does not keep alive
        self._vocabulary = vocabulary = model.get_vocab()
        ids = range(vocabulary.n_vocab)
        self.eos = frozenset([id for id in ids if vocabulary.is_eog(id)] + self._named(eos_token))
        if not self.eos:
            raise ConfigError(
                "the file does not name an end-of-sequence token",
                hint="pass its text as the option eos_token=...",
            )
        self._chat_template = model.get_default_chat_template()
        self.has_chat_template = bool(self._chat_template)
        marks = template_marks(partial(self.render_chat, thinking=False))
        self.special_texts = tuple(
            sorted({*self._special_texts(), *thinking_tags(self._chat_template), *marks})
        )
        self._start: Tokens = (vocabulary.token_bos(),) if vocabulary.get_add_bos() else ()
        self._pieces: dict[int, bytes] = {}
        self._adds_space = self._bytes(self.encode("a", start=False)).startswith(b" ")

    def close(self) -> None:
        """Let go of the model. What was decoded before still can be."""
        self.model, self._vocabulary = None, Gone()

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        """Token ids of `text`, control tokens in it included; with `start`, after the BOS the file asks for."""
        tokens = self._vocabulary.tokenize(text, False, True) if text else ()
        return (*self._start, *tokens) if start else tuple(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens without control tokens, spaces as they are, the first one included.

        The space that some tokenizers put before a text is left out behind the BOS; incomplete characters
        are U+FFFD.
        """
        text = self._bytes(tokens).decode("utf-8", errors="replace")
        begins = self._start and tuple(tokens[:1]) == self._start
        return text.removeprefix(" ") if begins and self._adds_space else text

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The chat template's text up to the assistant's answer.

        Where the template has no place for a system message, that text opens the first user message instead. Raises
        `UnsupportedError` without a template that can be read, `InputError` for messages that it refuses.
        """
        if not self.has_chat_template:
            raise UnsupportedError("the file has no chat template", hint="use the prompt format 'dialogue'")
        return render_or_merge(lambda accepted: self._render(accepted, thinking), messages)

    def _render(self, messages: Sequence[Message], thinking: bool) -> str:
        return self._template.render(
            messages=[{"role": message.role, "content": message.content} for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            enable_thinking=thinking,
            bos_token=self._text(self._vocabulary.token_bos()),
            eos_token=self._text(self._vocabulary.token_eos()),
        )

    @cached_property
    def _template(self) -> Any:
        """The template, ready to render."""
        from jinja2 import TemplateSyntaxError

        try:
            return _compiled(self._chat_template)
        except TemplateSyntaxError as error:
            raise UnsupportedError(
                f"the file's chat template cannot be read: {error}", hint="use the prompt format 'dialogue'"
            ) from error

    def _named(self, eos_token: str | None) -> list[int]:
        if eos_token is None:
            return []
        tokens = self._vocabulary.tokenize(eos_token, False, True)
        if len(tokens) != 1:
            raise ConfigError(
                f"eos_token {eos_token!r} is not a token of the tokenizer", hint="use a token's exact text"
            )
        return list(tokens)

    def _special_texts(self) -> Iterator[str]:
        for token in range(self._vocabulary.n_vocab):
            attributes = self._vocabulary.get_attr(token)
            if attributes & (UNKNOWN_ATTR | CONTROL_ATTR | USER_ATTR):
                text = self._text(token)
                if text and (not attributes & USER_ATTR or CONTROL.fullmatch(text)):
                    yield text

    def _text(self, token: int) -> str:
        """The token's text as the file has it, "" for no token."""
        return self._vocabulary.get_text(token) if token >= 0 else ""

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._piece(token) for token in tokens)

    def _piece(self, token: int) -> bytes:
        """What one token adds to the text, which may be part of a character."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def _read_piece(self, token: int) -> bytes:
        text = self._vocabulary.token_to_piece(token, 0, False)
        if "\ufffd" not in text:
            return text.encode()
        raw = self._text(token)
        if self._vocabulary.get_attr(token) & BYTE_ATTR:  # <0xE4>
            return bytes([int(raw[3:-1], 16)])
        return bytes(BYTE_LETTERS[letter] for letter in raw)


def _byte_letters() -> dict[str, int]:
    """Byte-level BPE writes a byte as its Latin-1 letter where that is visible, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


BYTE_LETTERS = _byte_letters()


def _compiled(template: str) -> Any:
    """The template, compiled as transformers does it: by its own function where it is installed, else like it."""
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template as compiled
    except ImportError:
        return _environment().from_string(template)
    return compiled(template)


def _environment() -> Any:
    """What chat templates expect of Jinja, in a sandbox, since a template is code of whoever made the file."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says, for training; here it is written as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
