"""Token batches from documents: whole documents side by side in rows of one length."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from rain_decoding.microworld.documents import Document, document


@dataclass(frozen=True)
class Batch:
    """`tokens` int64 and `weights` float32, both (rows, length); 0 where nothing is to be learned."""

    tokens: torch.Tensor
    weights: torch.Tensor


def encode(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], list[float]]]:
    """Each document as token ids from `<|begin|>` to `<|end|>`, and its loss weights.

    Parts are encoded apart, so that a label follows the prompt's own tokens as it does when it is scored.
    """
    texts = [text for item in documents for text, _ in item.parts]
    pieces = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    encoded = []
    for item in documents:
        ids, weights = [tokenizer.bos_token_id], [0.0]
        for _, weight in item.parts:
            piece = next(pieces)
            ids += piece
            weights += [weight] * len(piece)
        encoded.append(([*ids, tokenizer.eos_token_id], [*weights, 1.0]))
    return encoded


def make_batch(seed: int, step: int, rows: int, length: int, tokenizer: PreTrainedTokenizerFast) -> Batch:
    """The batch of one step, the same for the same seed and step. What no row has room for is dropped."""
    rng = np.random.default_rng([seed, step])
    tokens = torch.full((rows, length), tokenizer.eos_token_id, dtype=torch.long)
    weights = torch.zeros((rows, length))
    used, misses = [0] * rows, 0
    while misses < 8:
        for ids, loss_weights in encode([document(rng) for _ in range(32)], tokenizer):
            row = next((r for r in range(rows) if used[r] + len(ids) <= length), None)
            if row is None:
                misses += 1
                continue
            span = slice(used[row], used[row] + len(ids))
            tokens[row, span], weights[row, span] = torch.tensor(ids), torch.tensor(loss_weights)
            used[row] += len(ids)
    return Batch(tokens, weights)
