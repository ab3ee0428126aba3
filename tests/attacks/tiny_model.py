"""A tiny random model with the demo's tokenizer, and losses from its plain forwards."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from rain_decoding.attacks.passages import Passage
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers import wrap
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR
from rain_decoding.types import Tokens

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def tiny_backend(chat: bool = False, **options: Any) -> LocalBackend:
    """Two layers of width 32, far from uniform."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    if chat:
        tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LlamaForCausalLM(config).float()
    return wrap(model, tokenizer, name="tiny", criteria_dirs=[CRITERIA_DIR], dialogue_header="", **options)


def plain_loss(model: Any, passage: Passage, suffix: torch.Tensor) -> torch.Tensor:
    """Mean negative log-probability of the wanted tokens in one forward of the whole text without a cache.

    `suffix` is one-hot, `[len(ids), vocabulary]`.
    """
    table = model.get_input_embeddings().weight

    def embedded(ids: Tokens) -> torch.Tensor:
        return table[torch.tensor(ids, dtype=torch.long)]

    wanted = [forms[0] for forms in passage.wanted]
    rows = torch.cat(
        [embedded(passage.before), suffix @ table, embedded(passage.after), embedded(tuple(wanted))]
    )
    logits = model(inputs_embeds=rows[None], use_cache=False).logits[0]
    first = len(rows) - len(wanted) - 1
    return torch.nn.functional.cross_entropy(logits[first:-1], torch.tensor(wanted))


def one_hot(ids: Tokens, size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(ids), size).float()
