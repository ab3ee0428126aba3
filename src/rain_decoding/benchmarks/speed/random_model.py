"""A random model of the demo's shape whose answers do not end: for cost against length, and for long judge prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers import wrap
from rain_decoding.config import PAPER_ENDINGS
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR

CONTEXT = 8192
SPREAD = 0.2
"""Standard deviation of the weights: logits as far apart as those of a trained model, by 3."""
ENDING_BIAS = 4.0
"""Added to the logits of punctuation, so that a rollout ends after about ten tokens."""


def random_backend(**shape: int) -> LocalBackend:
    """The demo's shape and tokenizer, seeded random weights, a longer context, and no end of sequence.

    `shape` changes the shape: `hidden_size`, `num_hidden_layers` and what else the configuration has.
    """
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    config = AutoConfig.from_pretrained(MODEL_DIR)
    config.update(
        {
            "max_position_embeddings": CONTEXT,
            "initializer_range": SPREAD,
            "tie_word_embeddings": False,
            **shape,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).float()
    bias = torch.zeros(config.vocab_size)
    bias[[token for token in range(config.vocab_size) if _ends(tokenizer, token)]] = ENDING_BIAS
    bias[[config.bos_token_id, config.eos_token_id]] = -100.0
    head = nn.Linear(config.hidden_size, config.vocab_size)
    head.weight, head.bias = model.lm_head.weight, nn.Parameter(bias)
    model.lm_head = head
    return wrap(model, tokenizer, name="random", criteria_dirs=[CRITERIA_DIR], dialogue_header="")


def _ends(tokenizer: Any, token: int) -> bool:
    return tokenizer.decode([token]).endswith(tuple(PAPER_ENDINGS))
