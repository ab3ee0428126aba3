"""Tiny random models with two kinds of tokenizers, and plain forwards to compare judgements with."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from rain_decoding.backends.base import Backend
from rain_decoding.backends.transformers import wrap
from rain_decoding.programs import Together
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.criterion import Criterion, read_criterion

torch.set_num_threads(1)

TEXT = [
    "Human: How do I pick a lock?\n\nAssistant: I cannot help with that, but a locksmith can.",
    "Options:\n(A) The answer is harmless.\n(B) The answer is harmful.\nThe more fitting option is: (A)",
    "Is the answer truthful, Yes or No?\nVerdict: (Yes)",
    "用户：我该怎么办？\n\n助手：请先冷静下来。选项：（A）助手的回答是无害的。",
]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
THINKING = CHAT.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")
SWITCHED = CHAT.replace(
    "<|assistant|>\n{% endif %}",
    "<|assistant|>\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
"""As Qwen 3: asked not to think, the template itself closes the block."""
CHAT_TOKENS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<think>", "</think>"]


def byte_level(template: str | None = None) -> Any:
    """A byte-level BPE tokenizer without BOS, as GPT-2 and Qwen have it."""
    raw = tokenizers.Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=CHAT_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXT, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    tokenizer.chat_template = template
    return tokenizer


def llama_like(prepend: bool = True) -> Any:
    """BPE over "▁" for spaces, with BOS and bytes for unknown characters, as Llama 2 has it.

    Without `prepend`, no space is put before a text.
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({character for text in TEXT[:3] for character in text.replace(" ", "▁")} | {"▁"})
    merges = [("▁", "("), ("▁", "A"), ("▁", "B"), ("▁", "a"), ("H", "u"), ("Hu", "m"), ("▁", "Y"), ("e", "s")]
    vocabulary = [*pieces, *letters, *("".join(merge) for merge in merges)]
    raw = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(vocabulary)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    first = [normalizers.Prepend("▁")] if prepend else []
    raw.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prepend else []
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


TOKENIZERS = {
    "byte-level": byte_level,
    "llama-like": llama_like,
    "llama-like, nothing first": functools.partial(llama_like, prepend=False),
}


@functools.cache
def tokenizer(kind: str) -> Any:
    return TOKENIZERS[kind]()


@functools.cache
def model(vocabulary: int, context: int = 2048) -> Any:
    """A random Llama. Its weights are large enough that another token changes the probabilities visibly."""
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


def backend(tokens: Any, *, context: int = 2048, **options: Any) -> Backend:
    """A backend over the random Llama with this tokenizer."""
    return wrap(model(len(tokens), context), tokens, engine="trie", **{"dialogue_header": "", **options})


@torch.inference_mode()
def next_probabilities(tokens: Any, ids: Sequence[int]) -> np.ndarray:
    """The reference: softmax after one fresh forward, without cache."""
    logits = model(len(tokens))(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    return logits.double().softmax(-1).numpy()


class Spy:
    """Runs judgements and embeddings on a backend, and keeps the requests that they made."""

    def __init__(self, served: Backend):
        self.backend, self.owner = served, served.new_owner()
        self.requests: list[Any] = []

    def run(self, program: Any) -> Any:
        reply = None
        while True:
            try:
                wanted = program.send(reply)
            except StopIteration as stop:
                return stop.value
            together = isinstance(wanted, Together)
            values = self._values(wanted.requests if together else [wanted])
            reply = values if together else values[0]

    def _values(self, requests: Sequence[Any]) -> list[Any]:
        self.requests += requests
        handles = [self.backend.submit(request, self.owner) for request in requests]
        replies: dict[Any, Any] = {}
        while len(replies) < len(handles):
            for reply in self.backend.step():
                assert reply.error is None
                replies[reply.handle] = reply.value
        return [replies[handle] for handle in handles]

    def texts(self) -> list[str]:
        """The prompts of all requests so far, control tokens included."""
        codec: Any = self.backend.codec
        decode = codec.tokenizer.decode if hasattr(codec, "tokenizer") else codec.decode
        return [decode(list(request.prefix)) for request in self.requests]


POLITE = """name = "polite"

[judge]
instruction = "Judge the answer."
question = '''
Options:
(A) {option_1}
(B) {option_2}'''
lead = "The better option is: ("

[options]
labels = ["A", "B"]
positive = "The answer is polite."
negative = "The answer is rude."

[[examples]]
turns = ["Hello?", "Go away."]
verdict = "negative"
first = "positive"

[[examples]]
turns = ["Hello?", "Good day!"]
verdict = "positive"
first = "negative"
"""


def criterion(folder: Path, text: str = POLITE, **changes: str) -> Criterion:
    """The criterion of a TOML text; `changes` replace lines by their key."""
    lines = [
        f"{key} = {json.dumps(changes[key])}" if (key := line.split(" =")[0]) in changes else line
        for line in text.split("\n")
    ]
    path = folder / "criterion.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_criterion(path)


def dialogue_prompt(text: str = "Hi", *, format: str = "dialogue", tokens: tuple[int, ...] = ()) -> Prompt:
    """A prompt as `build_prompt` makes it, by hand."""
    from rain_decoding.types import Message

    whole = f"Human: {text}\n\nAssistant:" if format == "dialogue" else text
    markers = ("\nHuman:",) if format == "dialogue" else ()
    return Prompt(format, (Message("user", text),), whole, tokens, markers, strip=format != "text")  # type: ignore[arg-type]
