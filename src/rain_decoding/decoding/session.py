"""One request from its prompt to its completion: what all decoders share."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple, TypeVar

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.text_stream import TextStream, answer_text
from rain_decoding.errors import ContextLengthError, InputError
from rain_decoding.programs import Program, Request
from rain_decoding.prompting import Prompt, stop_strings
from rain_decoding.scheduler import Interrupted, Task
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator
from rain_decoding.types import Commit, Completion, FinishReason, Judgement, LogitBias, Tokens, Usage

DEFAULT_MAX_TOKENS = 256

T = TypeVar("T")
Steps = Generator[Request[object] | Commit, object, T]
"""A program that tells of its commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may ask for, per request.

    `max_tokens` >= 1 bounds the answer (None: 256, or what the context leaves); `stop` is a string that ends it, or
    several. Budgets: `max_seconds` > 0 of wall time, `max_search_tokens` >= 1 forwarded tokens; when one is used
    up the best text so far is returned. Budgets and `cancelled` are looked at before every step of the
    backend. `trace` records every event of the search. `criterion` or `principle` judges this request in place
    of the decoder's own.

    How plain decoding draws tokens: at `temperature` in [0, 100], 0 greedily, from the `top_k` >= 0 most probable
    tokens (0: all), and of those from the ones that hold `top_p` in (0, 1] together. None is the decoder's own:
    greedy, 0 and 1 where RAIN decodes plainly. Decoders with temperatures of their own refuse them. `logit_bias`
    maps token ids to what is added to their logits, in [-100, 100]; `frequency_penalty` in [-2, 2] is taken from a
    token's logit as often as the answer so far holds it, `presence_penalty` in [-2, 2] if it holds it at all. These
    three act wherever text is generated; judge prompts are never biased.
    """

    max_tokens: int | None = None
    seed: int = 0
    stop: str | Sequence[str] | None = ()
    max_seconds: float | None = None
    max_search_tokens: int | None = None
    trace: bool = False
    cancelled: Callable[[], bool] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    criterion: str | Criterion | Evaluator | None = None
    principle: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("max_search_tokens", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(f"{name} = {value!r}", hint=f"use a whole number >= {least}")
        seconds = self.max_seconds
        if seconds is not None and not (_number(seconds, 0, inf) and seconds > 0):
            raise InputError(f"max_seconds = {self.max_seconds!r}", hint="use a number > 0")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed = {self.seed!r}", hint="use a whole number")
        object.__setattr__(self, "stop", stop_strings(self.stop))
        check_sampling(self.temperature, self.top_k, self.top_p)
        _check_bias(self.logit_bias)
        for name in ("frequency_penalty", "presence_penalty"):
            if not _number(getattr(self, name), -2, 2):
                raise InputError(f"{name} = {getattr(self, name)!r}", hint="use -2 to 2")
        if self.criterion is not None and self.principle is not None:
            raise InputError("criterion and principle exclude each other", hint="pass one of them")

    @classmethod
    def named(cls, options: Mapping[str, Any]) -> Options:
        """The options by their names. Raises `InputError` for a name that is none."""
        try:
            return cls(**options)
        except TypeError as error:
            names = ", ".join(cls.__dataclass_fields__)
            raise InputError(
                str(error).replace("Options.__init__() ", ""), hint=f"options: {names}"
            ) from error

    @property
    def bias(self) -> LogitBias:
        """`logit_bias` and the penalties as requests carry them."""
        tokens = tuple(sorted(self.logit_bias.items()))
        return LogitBias(tokens, self.frequency_penalty, self.presence_penalty)

    def refuse_sampling(self, who: str) -> None:
        """Raise `InputError` where `temperature`, `top_k` or `top_p` is asked of a decoder with its own."""
        for name in ("temperature", "top_k", "top_p"):
            if (value := getattr(self, name)) is not None:
                raise InputError(
                    f"{name} = {value!r}: {who} at temperatures of their own",
                    hint="leave it out, or use PlainDecoder or one of the presets fast, balanced, thorough",
                )

    def refuse_criterion(self, why: str) -> None:
        """Raise `InputError` if a criterion was given to a decoder that takes none."""
        if self.criterion is not None or self.principle is not None:
            raise InputError(why, hint="leave out criterion and principle")


def check_sampling(temperature: float | None, top_k: int | None, top_p: float | None) -> None:
    """Raise `InputError` for a value out of range; None is none."""
    if temperature is not None and not _number(temperature, 0, 100):
        raise InputError(f"temperature = {temperature!r}", hint="use 0 (greedy) to 100")
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 0):
        raise InputError(f"top_k = {top_k!r}", hint="use a whole number, 0 (all tokens) or more")
    if top_p is not None and not (_number(top_p, 0, 1) and top_p > 0):
        raise InputError(f"top_p = {top_p!r}", hint="use a number above 0 and at most 1")


def _check_bias(bias: Mapping[int, float]) -> None:
    if not isinstance(bias, Mapping):
        raise InputError(f"logit_bias = {bias!r}", hint="use a mapping from token ids to numbers")
    for token, value in bias.items():
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise InputError(f"logit_bias: {token!r} is not a token id", hint="use whole numbers >= 0")
        if not _number(value, -100, 100):
            raise InputError(f"logit_bias[{token}] = {value!r}", hint="use -100 to 100")


def _number(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def token_limit(prompt: Prompt, backend: Backend, asked: int | None, overrun: int) -> int:
    """How many tokens may be generated; `overrun` more must fit into the context.

    Raises `ContextLengthError` when fewer than asked for (or none) fit.
    """
    room = backend.context_length - len(prompt.tokens) - overrun
    if room < 1 or (asked is not None and asked > room):
        raise ContextLengthError(
            f"the prompt is {len(prompt.tokens)} tokens long and {backend.name} has a context of "
            f"{backend.context_length}, so at most {max(room, 0)} tokens can be generated"
            + (f", not {asked}" if asked is not None else ""),
            hint="shorten the prompt or lower max_tokens",
        )
    return min(DEFAULT_MAX_TOKENS, room) if asked is None else asked


def total(counts: Iterable[int | None]) -> int | None:
    """The sum of the counts; None where one of them is not known."""
    found = 0
    for count in counts:
        if count is None:
            return None
        found += count
    return found


class Progress(NamedTuple):
    """Tokens committed, judgements made, and times the search turned back, so far."""

    tokens: int
    judgements: int
    rewinds: int


@dataclass(eq=False)
class Session:
    """State of one request. Subclasses give `steps`, a program that returns why the answer ends.

    Nothing happens before its `task` is started; `finish` gives back what it holds then.
    """

    backend: Backend
    prompt: Prompt
    options: Options
    limit: int
    """Tokens that may be generated."""
    owner: int
    """The backend's number for what this session caches."""
    started: float = field(default_factory=time.perf_counter)
    """When its time began, in seconds of `time.perf_counter`."""
    usage: Usage = field(default_factory=Usage)
    answer: Tokens = ()
    """Tokens committed so far."""
    score: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    reasoning: str = ""
    reasoning_tokens: Tokens = ()
    """What was generated before the answer, tags included."""
    warnings: list[str] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = TextStream(self.backend.codec, self.prompt)
        self.usage.prompt_tokens = len(self.prompt.tokens)
        self.warnings.extend(self.prompt.warnings)
        self.task: Task[Commit, Completion] = Task(self.run(), self.owner, self.interruption)
        """This session for a scheduler to run."""
        self.complete = False
        """The answer stands; what is still done for it is not interrupted."""

    def steps(self) -> Steps[FinishReason]:
        raise NotImplementedError

    @property
    def progress(self) -> Progress:
        """How far it is; may be asked from any thread."""
        return Progress(len(self.answer), self.usage.self_evaluations, self.usage.rewinds)

    def interruption(self) -> FinishReason | None:
        """Why to stop now, if the caller or a budget says so."""
        options = self.options
        if self.complete:
            return None
        if options.cancelled is not None and options.cancelled():
            return "cancelled"
        if options.max_seconds is not None and time.perf_counter() - self.started >= options.max_seconds:
            return "budget"
        if options.max_search_tokens is not None and self.task.forwarded >= options.max_search_tokens:
            return "budget"
        return None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Where the answer stands, what is done in here may be interrupted nevertheless."""
        self.complete = False
        try:
            yield
        finally:
            self.complete = True

    def commit(
        self,
        tokens: Tokens,
        *,
        value: float | None = None,
        visits: float | None = None,
        simulations: int | None = None,
    ) -> Commit:
        """Add tokens to the answer."""
        self.answer += tokens
        piece = self.stream.push(self.answer)
        return Commit(piece, tokens, value, visits, simulations)

    def judged(self, judge: ConversationEvaluator, tokens: Tokens) -> Program[Judgement]:
        """Have the answer in `tokens`, prompt included, judged, and count it."""
        answer = self.backend.codec.decode(tokens[len(self.prompt.tokens) :])
        judgement = yield from judge.judge(answer, tokens)
        self.warnings[:] = [*self.prompt.warnings, *judge.warnings]
        if not judgement.remembered:
            self.usage.self_evaluations += 1
            self.usage.unscored += judgement.score is None
            self.usage.unreached += judgement.unreached
            self.usage.escalations += judgement.escalated
        return judgement

    def run(self) -> Steps[Completion]:
        """The whole program: `steps`, then the last piece of text, then the completion."""
        try:
            reason = yield from self.steps()
        except Interrupted as interrupted:
            reason = interrupted.reason
        if (last := self.last_commit()) is not None:
            yield last
        return self.completion(reason)

    def last_commit(self) -> Commit | None:
        """The text that is still to be released when the answer stands."""
        rest = self.stream.push(self.answer, final=True)
        return Commit(rest, (), self.score) if rest else None

    @property
    def completion_tokens(self) -> int | None:
        """The answer's length; None where it is not known."""
        return len(self.answer)

    def completion(self, reason: FinishReason) -> Completion:
        """The completion as it stands now."""
        usage = self.usage
        usage.completion_tokens = self.completion_tokens
        usage.search_tokens = self.task.forwarded
        usage.cached_tokens = self.task.cost("spared")
        usage.judge_tokens = self.task.forwarded_elsewhere
        usage.forward_passes = self.task.passes
        usage.peak_kv_slots = self.task.peak_kv_slots
        usage.requests = self.task.cost("requests")
        usage.seconds = time.perf_counter() - self.started
        return Completion(
            text=answer_text(self.backend.codec, self.prompt, self.answer),
            finish_reason=reason,
            score=self.score,
            parts=self.parts,
            usage=usage,
            seed=self.options.seed,
            reasoning=self.reasoning,
            tokens=self.answer,
            warnings=self.warnings,
            trace=self.trace,
        )

    def collect(self) -> Completion:
        """The result once the task has ended; memory goes back. Raises what ended it."""
        task = self.task
        self.finish()
        if task.error is not None:
            raise task.error
        return task.result or self.completion("cancelled")

    def kept_sequences(self) -> Iterable[Tokens]:
        """What is worth keeping in the prefix cache for the conversation's next turn."""
        yield self.prompt.tokens + self.answer

    def finish(self) -> None:
        """Give back what the session holds, but for `kept_sequences`. May be called again."""
        self.backend.finish(self.owner, () if self.task.error else self.kept_sequences())
