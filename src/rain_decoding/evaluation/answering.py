"""Answers the prompts of one job; what happens in a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rain_decoding import demo
from rain_decoding.backends import load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.decoding.trace import write_trace
from rain_decoding.errors import ContextLengthError, RainError
from rain_decoding.evaluation.contenders import Contender
from rain_decoding.evaluation.suites import Item
from rain_decoding.measurement.records import Record
from rain_decoding.prompting import PromptFormat
from rain_decoding.types import Completion, Usage

FAILED = "error"
"""The finish reason of a record without an answer."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all answers of a run have in common: the model, how it is loaded, how decoders are made.

    `judge` is who judges in the searches, as `RainDecoder` takes it, where a decoder's name does not say it.
    `temperature` in [0, 100] is plain decoding's, alone and in RAIN; 0: greedy. Other decoders have their own.
    `concurrency` is how many requests run at once, None: as many as suit the decoder. `is_demo` says that the model
    is the demo model by whatever name: it gets the criteria and the dialogue header that belong to it.
    """

    model: str = "demo"
    loading: tuple[tuple[str, Any], ...] = ()
    embedding: str = "hashing"
    max_tokens: int = 256
    concurrency: int | None = None
    is_demo: bool = False
    judge: str | None = None
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """Some prompts of one kind for one decoder and seed; what a worker process is sent.

    `traces` is the folder that the searches' traces are written to, if they are wanted.
    """

    setting: Setting
    decoder: str
    contender: Contender
    seed: int
    items: tuple[Item, ...]
    criterion: str
    prompt_format: PromptFormat = "auto"
    traces: Path | None = None

    def __len__(self) -> int:
        return len(self.items)


def answer(job: AnswerJob, cancelled: Callable[[], bool] | None = None) -> Iterator[Record]:
    """One record per prompt, as answers are finished; what was cancelled gives none.

    `score` is what the search's own judge says of the answer, whichever decoder gave it. A prompt that does not fit
    into the model's context has no answer, the finish reason "error", and the reason as its `problem`.
    """
    setting = job.setting
    backend = model(setting)
    decoder, judge = decoders(job.contender, setting, job.criterion, job.prompt_format)
    _warm_up(judge, job.items)
    finished = decoder.attempt_batch(
        [item.prompt for item in job.items],
        (ContextLengthError,),
        concurrency=setting.concurrency or job.contender.concurrency,
        seed=job.seed,
        max_tokens=setting.max_tokens,
        temperature=setting.temperature if job.contender.decodes_plainly else None,
        cancelled=cancelled,
        trace=job.traces is not None,
    )
    for index, found in finished:
        item = job.items[index]
        common = {
            "id": item.id,
            "family": item.family,
            "subject": item.subject,
            "prompt": item.prompt,
            "format": chosen_format(backend, job.prompt_format),
            "decoder": job.decoder,
            "seed": job.seed,
            "judge": "" if job.contender.is_plain else judge.evaluator.name,
        }
        if isinstance(found, RainError):
            yield {**common, **_unanswered(found)}
        elif found.finish_reason != "cancelled":
            score, usage = found.score, found.usage
            if job.contender.is_plain:
                judgement = judge.judge(item.prompt, found.text)
                score, usage = judgement.score, replace(usage, unreached=int(judgement.unreached))
            yield {
                **common,
                "answer": found.text,
                "finish_reason": found.finish_reason,
                "score": score,
                "usage": asdict(usage),
                "trace": _keep_trace(job, item, found),
            }


def _warm_up(judge: RainDecoder, items: Sequence[Item]) -> None:
    """Forward what all judge prompts begin with, before it could count as a cost of the first answer."""
    for item in items:
        with suppress(ContextLengthError):
            judge.judge(item.prompt, "a")
            return


def _unanswered(error: RainError) -> Record:
    """What stands in place of an answer that there is none of."""
    return {
        "answer": "",
        "finish_reason": FAILED,
        "score": None,
        "usage": asdict(Usage()),
        "trace": None,
        "problem": str(error),
    }


def chosen_format(backend: Backend, asked: PromptFormat) -> str:
    """The format that `auto` stands for."""
    if asked != "auto":
        return asked
    return "chat" if backend.codec.has_chat_template else "dialogue"


def _keep_trace(job: AnswerJob, item: Item, completion: Completion) -> str | None:
    """Write a search's trace; its path, from the run's folder."""
    if job.traces is None or not completion.trace:
        return None
    folder = job.traces / "".join(c if c.isalnum() or c in "-." else "_" for c in job.decoder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{item.id}-{job.seed}.jsonl"
    write_trace(path, completion.trace)
    return str(path.relative_to(job.traces.parent))


@cache
def model(setting: Setting) -> Backend:
    """The model, loaded once per process."""
    belongings = demo.LOADING if setting.is_demo and setting.model != "demo" else {}
    return load_backend(setting.model, **belongings, **dict(setting.loading))


@cache
def decoders(
    contender: Contender, setting: Setting, criterion: str, prompt_format: PromptFormat
) -> tuple[Decoder, Any]:
    """A decoder, and the search whose judge it has or would have."""
    options: dict[str, Any] = {
        "embedding": setting.embedding,
        "prompt_format": prompt_format,
        "judge": setting.judge,
    }
    backend = model(setting)
    decoder = contender.decoder(backend, criterion, **options)
    search = decoder if contender.is_search else contender.search(backend, criterion, **options)
    return decoder, search
