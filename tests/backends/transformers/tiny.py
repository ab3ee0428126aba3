"""Tiny random models and tokenizers, made on the spot: nothing is downloaded."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

torch.set_num_threads(1)
logging.getLogger("transformers").setLevel(logging.ERROR)

VOCABULARY = 61
WINDOW = 6
LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Large enough that a wrong mask changes the logits by about 1.
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
OTHER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}


def _mixed(**extra: Any) -> dict[str, Any]:
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
    return LLAMA_LIKE | layers | {"head_dim": 8} | extra


def config(kind: str) -> Any:
    """Configuration of a two-layer model of this kind."""
    t = transformers
    match kind:
        case "llama":
            return t.LlamaConfig(**LLAMA_LIKE)
        case "qwen2":
            return t.Qwen2Config(**LLAMA_LIKE)
        case "qwen3":
            return t.Qwen3Config(**LLAMA_LIKE, head_dim=8)
        case "mistral":
            return t.MistralConfig(**LLAMA_LIKE, sliding_window=WINDOW)
        case "gemma2":
            return t.Gemma2Config(**_mixed())
        case "gemma3":
            return t.Gemma3TextConfig(**_mixed())
        case "gpt2":
            return t.GPT2Config(
                vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2,
                bos_token_id=0, eos_token_id=1,
            )  # fmt: skip
        case "gpt_neox":
            return t.GPTNeoXConfig(
                **OTHER, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                max_position_embeddings=128,
            )  # fmt: skip
        case "bloom":
            return t.BloomConfig(**OTHER, n_layer=2, n_head=4)
        case "mamba":
            return t.MambaConfig(**OTHER, num_hidden_layers=2, state_size=4)
        case "recurrent_gemma":
            return t.RecurrentGemmaConfig(
                **OTHER, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, lru_width=32,
                attention_window_size=WINDOW,
            )  # fmt: skip
    raise ValueError(kind)


@functools.cache
def model(kind: str, attention: str | None = None) -> Any:
    """A random model in evaluation mode; the same object for the same arguments."""
    torch.manual_seed(7)
    options = {"attn_implementation": attention} if attention else {}
    return transformers.AutoModelForCausalLM.from_config(config(kind), **options).eval()


@torch.inference_mode()
def plain(kind_or_model: Any, tokens: tuple[int, ...]) -> np.ndarray:
    """The reference: logits after the last token of a full forward without cache, float32 `[vocabulary]`."""
    reference = model(kind_or_model) if isinstance(kind_or_model, str) else kind_or_model
    return reference(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].float().numpy()


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def tokens(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random token ids, none of them BOS or EOS."""
    return tuple(int(token) for token in draw(seed).integers(2, VOCABULARY, size=length))


TEXT = [
    "the cat sat on the mat and the dog sat on the log",
    "how do I pick a lock? I cannot help with that.",
    "a question and an answer, a dialogue of two turns\n\nHuman: hello\n\nAssistant: hello there",
]


def byte_level_tokenizer(**special: str) -> Any:
    """A byte-level BPE tokenizer of at most 300 tokens, without BOS, as GPT-2 and Qwen have it."""
    raw = tokenizers.Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(TEXT, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **({"eos_token": "<|end|>"} | special))


def metaspace_tokenizer(*, trailing_eos: bool = False) -> Any:
    """A Unigram tokenizer with "▁" for spaces and a BOS in front, as Llama 2 has it."""
    raw = tokenizers.Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    end = " </s>" if trailing_eos else ""
    raw.post_processor = processors.TemplateProcessing(
        single=f"<s> $A{end}",
        special_tokens=[("<s>", raw.token_to_id("<s>")), ("</s>", raw.token_to_id("</s>"))],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
