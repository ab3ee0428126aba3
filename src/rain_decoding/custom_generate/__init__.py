"""RAIN inside `model.generate` of transformers: `model.generate(..., custom_generate=rain_generate)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.loading import JudgeChoice
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
    rain_principle: str | None = None,
    rain_judge: str | Backend | JudgeChoice | None = None,
    rain_config: str | SearchConfig = DEFAULT_PRESET,
    rain_tokenizer: Any = None,
    rain_messages: Sequence[Conversation] | None = None,
    rain_thinking: bool | None = None,
    rain_stop: str | Sequence[str] | None = None,
    rain_seed: int | None = None,
    rain_streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Answer prompts by RAIN, as the `custom_generate` of `model.generate`.

    `generate` passes the first five arguments; callers set those that begin with `rain_`.

    Args:
        model: The model of transformers that generates and judges.
        input_ids: Token ids of the prompts, `[batch, length]`, padded on one side.
        logits_processor: Processors that `generate` made; the search honours them.
        stopping_criteria: Criteria that `generate` made.
        generation_config: The configuration of `generate`.
        rain_criterion: Name, file, `Criterion` or evaluator to judge by; None: that of `rain_config`.
        rain_principle: In place of `rain_criterion`: one sentence about a good answer.
        rain_judge: Who judges, as for `RainDecoder`. None: the model's hidden states are read where that surely beats a
            coin, for which a probe is fitted once and kept, else it is asked; by the paper's presets it is asked.
        rain_config: Name of a preset, or a `SearchConfig`.
        rain_tokenizer: The model's tokenizer; None: loaded from where the model came from.
        rain_messages: The conversation of each prompt; None: read from the token ids.
        rain_thinking: Whether the model reasons before it answers; None: as the chat template shows.
        rain_stop: A string that ends a text, or several, in place of `stop_strings`.
        rain_seed: Seed of the first prompt; None: 0, or drawn by torch's generator with `do_sample`.
        rain_streamer: Receives tokens as they are released; for a batch of one.
        model_kwargs: What `generate` adds for the model, `attention_mask` `[batch, length]` among them.

    Returns:
        As `generate`: token ids `[batch, longest]` on the device of `input_ids`, or a `RainGenerateOutput` with
        `return_dict_in_generate`.

    Raises:
        InputError: an argument or a prompt cannot be used.
        UnsupportedError: RAIN cannot honour an argument of `generate`.
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
        principle=rain_principle,
        judge=rain_judge,
        config=rain_config,
        tokenizer=rain_tokenizer,
        messages=rain_messages,
        thinking=rain_thinking,
        stop=rain_stop,
        seed=rain_seed,
        streamer=rain_streamer,
    )


__all__ = ["rain_generate"]
