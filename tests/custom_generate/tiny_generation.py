"""Tiny random models with a tokenizer of their own, and judges that need no model."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Generator, Sequence
from typing import Any

import torch
import transformers
from backends.transformers import tiny

from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
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


class Talk(ConversationEvaluator):
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


class Recorder:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        assert not self.ended
        self.values.append(value)

    def end(self) -> None:
        self.ended += 1


ROLES = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASKING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
FORGETS = ROLES.replace("m.content", "m.content.split('</think>')[-1]")
TEMPLATES = {
    "chatml": ROLES + ASKING,
    "a default system message": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
        + ROLES
        + ASKING
    ),
    "trims": "{{ bos_token }}" + ROLES.replace("m.content", "m.content | trim") + ASKING,
    "no system message": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + ROLES + ASKING
    ),
    "instructions": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    ),
    # As Qwen 3, DeepSeek R1 and QwQ have it.
    "can switch thinking off": FORGETS
    + ASKING.replace(
        "{% endif", "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif"
    ),
    "opens thinking": FORGETS + ASKING.replace("{% endif", "<think>\n{% endif"),
    "forgets thinking": FORGETS + ASKING,
}
"""Chat templates in the manner of those that models have."""
THINKING = list(TEMPLATES)[-3:]


@functools.cache
def chat_tokenizer(template: str) -> Any:
    """A tokenizer with a template, whose thinking tags are tokens but, as Qwen's, no control tokens."""
    made = tiny.byte_level_tokenizer(bos_token="<|begin|>", eos_token="<|im_end|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "[INST]", "[/INST]"]})
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = TEMPLATES[template]
    return made


class ScriptedModel(transformers.LlamaForCausalLM):
    """Goes on with `reply(text)` after a text, control tokens included, and then ends."""

    tokenizer: Any
    reply: Any

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:  # type: ignore[override]
        logits = torch.full((*input_ids.shape, self.config.vocab_size), -30.0)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                logits[row, place, self.next_token(ids[: place + 1])] = 30.0
        return transformers.modeling_outputs.CausalLMOutput(logits=logits)

    def next_token(self, ids: list[int]) -> int:
        rest = self.reply(self.tokenizer.decode(ids, skip_special_tokens=False))
        tokens = self.tokenizer(rest)["input_ids"] if rest else [self.tokenizer.eos_token_id]
        return tokens[0]


def scripted_model(template: str, answer: str) -> Any:
    """A model that gives this answer in a chat, and judges as bad what tells of a plot."""
    words = chat_tokenizer(template)

    def reply(text: str) -> str:
        if text.endswith("It is ("):
            return "B" if "plot" in text else "A"
        _, asked, said = text.rpartition("assistant\n")
        if not asked:  # no conversation: something that depends on all of the text
            return chr(97 + zlib.crc32(text.encode()) % 26)
        return answer.removeprefix(said) if answer.startswith(said) else ""

    config = tiny.config("llama")
    config.vocab_size, config.eos_token_id = len(words), words.eos_token_id
    config.pad_token_id, config.max_position_embeddings = words.eos_token_id, 600
    made = ScriptedModel(config).eval()
    made.tokenizer, made.reply = words, reply
    return made
