"""RAIN inside `model.generate` of transformers: `model.generate(..., custom_generate=rain_generate)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.types import Message

Conversation = Sequence[Message | Mapping[str, Any]]


def rain_generate(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    rain_criterion: str | Criterion | Evaluator | None = None,
    rain_config: str | SearchConfig = DEFAULT_PRESET,
    rain_tokenizer: Any = None,
    rain_messages: Sequence[Conversation] | None = None,
    rain_thinking: bool | None = None,
    rain_stop: Sequence[str] = (),
    rain_seed: int | None = None,
    rain_streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Answer the prompts `input_ids` `[batch, length]` by RAIN; called by `model.generate`, not by hand.

    `rain_criterion` and `rain_config` (a preset's name or a `SearchConfig`) are those of `RainDecoder`.
    `rain_tokenizer` is the model's; without it, it is loaded from where the model came from. `rain_messages` are
    the conversations that the prompts were made of, one each; without them they are read from the token ids.
    `rain_thinking` says whether the model reasons before it answers (None: as the chat template shows). `rain_stop`
    are strings that end a text. `rain_seed` None is 0, or drawn by torch's generator with `do_sample`.
    `rain_streamer` receives tokens as they are released (batch size 1).

    Returns what `generate` returns: token ids `[batch, longest]` on the device of `input_ids`, or with
    `return_dict_in_generate` a `RainGenerateOutput`. Raises `InputError` and `UnsupportedError` for arguments that
    RAIN cannot honour.
    """
    from rain_decoding.custom_generate.calling import answer_call

    return answer_call(
        model,
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        model_kwargs,
        criterion=rain_criterion,
        config=rain_config,
        tokenizer=rain_tokenizer,
        messages=rain_messages,
        thinking=rain_thinking,
        stop=rain_stop,
        seed=rain_seed,
        streamer=rain_streamer,
    )


__all__ = ["rain_generate"]
