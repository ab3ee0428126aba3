"""One call of `generate`: its arguments checked, its prompts answered together, its result put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers.generation import GenerateDecoderOnlyOutput, stopping_criteria

from rain_decoding.backends.local import LocalBackend
from rain_decoding.config import SearchConfig
from rain_decoding.custom_generate.arguments import Row, check_arguments, rows_of
from rain_decoding.custom_generate.logits_processor import RowLogitsProcessor
from rain_decoding.custom_generate.models import backend_over
from rain_decoding.custom_generate.reading import given_prompt, read_prompt, ready
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.decoding.session import Options
from rain_decoding.decoding.stream import Stream
from rain_decoding.errors import InputError
from rain_decoding.prompting import Prompt, stop_strings
from rain_decoding.turns import TURN
from rain_decoding.types import Completion, Tokens


@dataclass
class RainGenerateOutput(GenerateDecoderOnlyOutput):
    """What `generate` returns with `return_dict_in_generate`: `sequences`, and one completion per prompt.

    Where a paper preset's last token set lies beyond `max_length`, only the sequence is cut there.
    """

    completions: list[Completion] | None = None


def answer_call(
    model: Any,
    input_ids: torch.Tensor,
    processors: Sequence[Any],
    criteria: Sequence[Any],
    generation: Any,
    model_kwargs: dict[str, Any],
    *,
    criterion: Any,
    principle: str | None,
    judge: Any,
    config: str | SearchConfig,
    tokenizer: Any,
    messages: Sequence[Any] | None,
    thinking: bool | None,
    stop: str | Sequence[str] | None,
    seed: int | None,
    streamer: Any,
) -> torch.Tensor | RainGenerateOutput:
    """See `rain_generate`."""
    search = config if isinstance(config, SearchConfig) else SearchConfig.preset(config)
    check_arguments(model, generation, model_kwargs, search)
    rows = rows_of(input_ids, model_kwargs.get("attention_mask"))
    if streamer is not None and len(rows) > 1:
        raise InputError(
            f"rain_streamer cannot stream {len(rows)} prompts",
            hint="use a batch of one prompt with a streamer",
        )
    with _evaluating(model), ExitStack() as stack:
        with TURN:
            backend = backend_over(model, tokenizer, _ends(criteria))
        decoder = RainDecoder(backend, criterion, search, principle=principle, judge=judge)
        if not isinstance(config, SearchConfig):
            decoder.mind_plain_text()
        prompts = _prompts(rows, messages, backend, stop_strings(stop), thinking)
        sessions = []
        for prompt, seed_of_row in zip(prompts, _seeds(rows, seed, generation.do_sample), strict=True):
            options = Options(
                max_tokens=generation.max_length - input_ids.shape[1],
                seed=seed_of_row,
                # The processors know the real temperature.
                temperature=None if search.strategy == "paper" else float(generation.do_sample),
            )
            sessions.append(decoder.open_session(prompt, options))
        for index, (row, session) in enumerate(zip(rows, sessions, strict=True)):
            place = (index, len(rows), row.padding)
            backend.steer(session.owner, RowLogitsProcessor(*place, processors, criteria, input_ids.device))
        streams = [stack.enter_context(Stream.start(session)) for session in sessions]
        _run(streams, input_ids, streamer)
    sequences = _sequences(input_ids, [s.reasoning_tokens + s.answer for s in sessions], generation)
    if not generation.return_dict_in_generate:
        return sequences
    completions = [stream.completion for stream in streams if stream.completion is not None]
    return RainGenerateOutput(sequences=sequences, completions=completions)


def _run(streams: Sequence[Stream], input_ids: torch.Tensor, streamer: Any) -> None:
    """Finish the streams, which advance together whichever is waited for; tokens go to the streamer, if any."""
    if streamer is None:
        for stream in streams:
            for _ in stream:
                pass
        return
    streamer.put(input_ids.cpu())
    for token in (token for stream in streams for commit in stream for token in commit.tokens):
        streamer.put(torch.tensor([token]))
    streamer.end()


def _ends(criteria: Sequence[Any]) -> set[int]:
    """The tokens that end a sequence in this call."""
    kinds = (c for c in criteria if isinstance(c, stopping_criteria.EosTokenCriteria))
    return {int(token) for criterion in kinds for token in criterion.eos_token_id.flatten()}


def _prompts(
    rows: Sequence[Row],
    messages: Sequence[Any] | None,
    backend: LocalBackend,
    stop: tuple[str, ...],
    thinking: bool | None,
) -> list[Prompt]:
    if messages is None:
        read = [read_prompt(row.tokens, backend) for row in rows]
        return [ready(prompt, backend, stop, thinking) for prompt in read]
    # generate has repeated the prompts for num_return_sequences.
    copies, rest = divmod(len(rows), len(messages)) if messages else (0, 1)
    if rest:
        raise InputError(
            f"rain_messages has {len(messages)} conversations for {len(rows)} prompts",
            hint="use a list with one conversation (a list of messages) per prompt",
        )
    given = [given_prompt(messages[i // copies], row.tokens, backend.codec) for i, row in enumerate(rows)]
    return [ready(prompt, backend, stop, thinking) for prompt in given]


def _seeds(rows: Sequence[Row], seed: int | None, do_sample: bool) -> list[int]:
    """One seed per row: the same for all, but for further copies of a prompt."""
    if seed is None:
        seed = int(torch.randint(2**62, ()).item()) if do_sample else 0
    copies: Counter[Tokens] = Counter()
    seeds = []
    for row in rows:
        seeds.append(seed + copies[row.tokens])
        copies[row.tokens] += 1
    return seeds


def _sequences(input_ids: torch.Tensor, answers: Sequence[Tokens], generation: Any) -> Any:
    """Prompts and answers, padded on the right: `[batch, longest]`, no longer than `max_length`."""
    answers = [answer[: generation.max_length - input_ids.shape[1]] for answer in answers]
    longest = max(map(len, answers))
    pad = generation._pad_token_tensor
    if pad is None and any(len(answer) < longest for answer in answers):
        raise InputError(
            "answers of different lengths need a pad_token_id; set it in generation_config",
            hint="pass pad_token_id=...",
        )
    filler = 0 if pad is None else int(pad)
    new = [[*answer, *[filler] * (longest - len(answer))] for answer in answers]
    tail = torch.tensor(new, dtype=input_ids.dtype, device=input_ids.device).reshape(len(new), longest)
    return torch.cat([input_ids, tail], dim=1)


@dataclass
class _Evaluated:
    """Calls that are under way with a model, and what of it is to train again behind the last one."""

    calls: int
    training: list[Any]


_evaluated: WeakKeyDictionary[Any, _Evaluated] = WeakKeyDictionary()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode meanwhile, as long as any thread needs it."""
    with TURN:
        known = _evaluated.setdefault(model, _Evaluated(0, []))
        known.calls += 1
        known.training += [module for module in model.modules() if module.training]
        model.eval()
    try:
        yield
    finally:
        with TURN:
            known.calls -= 1
            if not known.calls:
                del _evaluated[model]
                for module in known.training:
                    module.training = True
