"""Tiny random models with a tokenizer of their own, and judges that need no model."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from typing import Any

import torch
import transformers
from backends.transformers import tiny

from rain_decoding.prompting import Prompt
from rain_decoding.types import Judgement, Tokens

KINDS = ("llama", "qwen2", "qwen3", "gpt2")
TEXTS = ["the cat sat on", "a question: how do I pick a lock?", "hello"]


@functools.cache
def own_tokenizer() -> Any:
    return tiny.byte_level_tokenizer()


def new_model(kind: str, tokenizer: Any = None, **changes: Any) -> Any:
    """A random model over a tokenizer's vocabulary."""
    tokenizer = tokenizer or own_tokenizer()
    config = tiny.config(kind)
    for name, value in changes.items():
        setattr(config, name, value)
    config.vocab_size = len(tokenizer)
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    config.bos_token_id = None
    torch.manual_seed(11)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@functools.cache
def model(kind: str) -> Any:
    return new_model(kind)


def inputs(texts: Sequence[str] = TEXTS, side: str = "left") -> dict[str, torch.Tensor]:
    """The texts as a padded batch."""
    rows = [own_tokenizer()(text)["input_ids"] for text in texts]
    width = max(map(len, rows))
    pads = [width - len(row) for row in rows]
    pad = own_tokenizer().eos_token_id
    left = side == "left"
    ids = [[pad] * n + row if left else row + [pad] * n for row, n in zip(rows, pads, strict=True)]
    mask = [
        [0] * n + [1] * len(row) if left else [1] * len(row) + [0] * n
        for row, n in zip(rows, pads, strict=True)
    ]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


class Judge:
    """A judge in place of self-evaluation. Good is what holds none of `bad`; it remembers what it was shown."""

    name = "a stub"

    def __init__(self, bad: str = ""):
        self.bad = bad
        self.prompts: list[Prompt] = []
        self.answers: list[str] = []

    def conversation(self, prompt: Prompt) -> Talk:
        self.prompts.append(prompt)
        return Talk(self, prompt)


class Talk:
    def __init__(self, judge: Judge, prompt: Prompt):
        self.judge_of_all, self.prompt = judge, prompt
        self.warnings: list[str] = []

    def judge(self, answer: str, tokens: Tokens | None = None) -> Generator[Any, Any, Judgement]:
        self.judge_of_all.answers.append(answer)
        bad = any(letter in answer for letter in self.judge_of_all.bad)
        return Judgement(-1.0 if bad else 1.0, answer)
        yield

    def held(self, answer: str) -> list[Tokens]:
        return []
