"""What of generate's arguments RAIN can honour, and the prompts in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rain_decoding.config import SearchConfig
from rain_decoding.errors import InputError, UnsupportedError
from rain_decoding.types import Tokens

OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
MODES = {"greedy_search", "sample"}
OTHER_MODES = {
    "beam_search": "num_beams=1",
    "beam_sample": "num_beams=1",
    "group_beam_search": "num_beams=1",
    "constrained_beam_search": "omit constraints and force_words_ids; logits processors are honoured",
    "contrastive_search": "omit penalty_alpha",
    "assisted_generation": "omit prompt_lookup_num_tokens and other assisted decoding",
    "dola_generation": "omit dola_layers",
}
"""What to do about each mode of generate that RAIN is no form of."""

OWN = {"attention_mask", "position_ids", "past_key_values", "cache_params", "use_cache", "logits_to_keep"}
"""Arguments for the model that generate adds by itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of the batch, and the padding that stands before it where it is padded on the left."""

    tokens: Tokens
    padding: Tokens


def check_arguments(model: Any, generation: Any, model_kwargs: dict[str, Any], search: SearchConfig) -> None:
    """Raise `UnsupportedError` or `InputError` for what RAIN cannot honour."""
    if model.config.is_encoder_decoder:
        raise UnsupportedError(
            "RAIN needs a decoder-only model, and this one is an encoder-decoder",
            hint="use a decoder-only model",
        )
    mode = str(generation.get_generation_mode().value)
    if mode not in MODES:
        raise UnsupportedError(
            f"RAIN is a search of its own and cannot be combined with {mode}",
            hint=OTHER_MODES.get(mode, "omit it"),
        )
    if generation.do_sample and search.strategy == "paper":
        raise InputError(
            "do_sample=True conflicts with the paper's presets, which set their own temperatures",
            hint="pass do_sample=False, or one of the presets fast, balanced, thorough",
        )
    for name in OUTPUTS:
        if getattr(generation, name):
            raise UnsupportedError(
                f"{name} is not supported: a search has no scores for a single path", hint="omit it"
            )
    cache = model_kwargs.get("past_key_values")
    if getattr(cache, "_is_user_defined", False):
        raise UnsupportedError(
            "past_key_values is not supported: RAIN keeps its own cache", hint="omit past_key_values"
        )
    for name, value in model_kwargs.items():
        if name not in OWN and value is not None and not _says_nothing(name, value):
            raise UnsupportedError(
                f"{name} is not supported: RAIN passes only tokens to the model", hint="omit it"
            )


def _says_nothing(name: str, value: Any) -> bool:
    return name == "token_type_ids" and not torch.any(value)


def rows_of(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> list[Row]:
    """The prompts without their padding, whichever side it is on. Raises `InputError` for holes and empty ones."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    return [
        _row(index, ids, kept)
        for index, (ids, kept) in enumerate(zip(input_ids.cpu(), mask.cpu(), strict=True))
    ]


def _row(index: int, ids: torch.Tensor, kept: torch.Tensor) -> Row:
    places = kept.nonzero().flatten().tolist()
    if not places:
        raise InputError(f"prompt {index} is empty", hint="check its attention_mask, which masks every token")
    if places[-1] - places[0] + 1 != len(places):
        raise InputError(f"the attention_mask of prompt {index} has holes", hint="pad on one side only")
    padding = [token for place, token in enumerate(ids.tolist()) if not kept[place]]
    return Row(tuple(ids[places].tolist()), tuple(padding))
