"""`HFCodec`: a Hugging Face tokenizer as the backend's codec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from rain_decoding.backends.base import OwnVocabulary
from rain_decoding.backends.chat_template import CONTROL, render_or_merge, template_marks, thinking_tags
from rain_decoding.backends.endings import INCOMPLETE
from rain_decoding.errors import ConfigError, UnsupportedError
from rain_decoding.types import Message, Tokens


class HFCodec(OwnVocabulary):
    """Implements `backends.base.Codec` over a `transformers` tokenizer.

    Raises `ConfigError` if no end of sequence is known.
    """

    def __init__(self, tokenizer: Any, *, eos_ids: Iterable[int] = (), eos_token: str | None = None):
        """`eos_ids` are the model's own ends of sequence; `eos_token` names a further one by its text."""
        self.tokenizer = tokenizer
        self.eos = frozenset({*eos_ids, *_eos_of(tokenizer), *_named(tokenizer, eos_token)})
        if not self.eos:
            raise ConfigError(
                "neither the tokenizer nor the model names an end-of-sequence token",
                hint="pass its text as the option eos_token=...",
            )
        self.special_texts = control_texts(tokenizer)
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))
        self._start = _start_tokens(tokenizer)
        self._anchor = _anchor(tokenizer)
        self._byte_of = _byte_tokens(tokenizer)

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        """Token ids of `text`; with `start`, after what the tokenizer puts first. Nothing is put last."""
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return (*self._start, *tokens) if start else tuple(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens without control tokens, spaces as they are, the first one included."""
        text = self._part(tokens)
        if INCOMPLETE not in text or self._byte_of.keys().isdisjoint(tokens):
            return text
        # Of a run of bytes, the decoder gives up all characters for one byte that is none.
        parts = groupby(tokens, key=self._byte_of.__contains__)
        return "".join(
            bytes(self._byte_of[token] for token in run).decode("utf-8", "replace")
            if are_bytes
            else self._part(list(run))
            for are_bytes, run in parts
        )

    def _part(self, tokens: Sequence[int]) -> str:
        begins = self._start and tuple(tokens[: len(self._start)]) == self._start
        anchor = [] if begins else self._anchor
        return self._decode([*anchor, *tokens]).removeprefix(self._decode(anchor))

    def _decode(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The chat template's text up to the assistant's answer.

        Where the template has no place for a system message, that text opens the first user message instead. Raises
        `UnsupportedError` without a template and `InputError` for messages that the template refuses.
        """
        if not self.has_chat_template:
            raise UnsupportedError(
                "the tokenizer has no chat template", hint="use the prompt format 'dialogue'"
            )
        return rendered(self.tokenizer, messages, thinking=thinking)


def _eos_of(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]


def _named(tokenizer: Any, eos_token: str | None) -> list[int]:
    if eos_token is None:
        return []
    if eos_token not in (vocabulary := tokenizer.get_vocab()):
        raise ConfigError(
            f"eos_token {eos_token!r} is not a token of the tokenizer", hint="use a token's exact text"
        )
    return [vocabulary[eos_token]]


def control_texts(tokenizer: Any) -> tuple[str, ...]:
    """Texts that the tokenizer would read as control tokens, and what its chat template writes around messages."""
    added = tokenizer.added_tokens_decoder.values()
    texts = {str(token) for token in added if token.special or CONTROL.fullmatch(str(token))}
    tags = thinking_tags(str(getattr(tokenizer, "chat_template", None) or ""))
    marks = template_marks(partial(rendered, tokenizer)) if getattr(tokenizer, "chat_template", None) else ()
    return tuple(sorted({*texts, *tags, *marks, *tokenizer.all_special_tokens} - {""}))


def rendered(
    tokenizer: Any, messages: Sequence[Message], *, thinking: bool = False, answers: bool = True
) -> str:
    """The messages as the tokenizer's chat template writes them; with `answers`, up to where the assistant's begins.

    Raises `InputError` for what it refuses.
    """

    def written(accepted: Sequence[Message]) -> str:
        return tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in accepted],
            tokenize=False,
            add_generation_prompt=answers,
            enable_thinking=thinking,
        )

    return render_or_merge(written, messages)


def _start_tokens(tokenizer: Any) -> Tokens:
    """What the tokenizer puts before a text (BOS), which is not always what it calls its BOS."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for position in range(len(whole) - len(bare) + 1):
        if whole[position : position + len(bare)] == bare:
            return tuple(whole[:position])
    return ()


def _byte_tokens(tokenizer: Any) -> dict[int, int]:
    """The byte that a token stands for, of tokenizers that fall back to bytes."""
    vocabulary = tokenizer.get_vocab()
    names = {f"<0x{byte:02X}>": byte for byte in range(256)}
    return {vocabulary[name]: byte for name, byte in names.items() if name in vocabulary}


def _anchor(tokenizer: Any) -> list[int]:
    """A token to decode in front of others where the decoder drops the first space of what it is given."""
    one, *others = tokenizer("a a", add_special_tokens=False)["input_ids"]
    return [] if tokenizer.decode(others).startswith(" ") else [one]
