"""What is compared: our decoders, each with a cache of its own over the same weights, and the engines' own loops."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from rain_decoding.backends.base import Backend, Engine
from rain_decoding.backends.gguf.engine import LlamaCppEngine
from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed.forwards import Forwards, count_forwards, count_steps
from rain_decoding.benchmarks.speed.judge import JUDGES, JudgeOptions
from rain_decoding.config import PRESETS
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.errors import InputError, UnsupportedError
from rain_decoding.prompting import build_prompt
from rain_decoding.types import Tokens

PLAIN = ("plain", "generate")
"""Plain decoding: ours, and the engine's own."""
NAIVE_PRESET = "paper-hh"
NAIVE = {"naive": 1, "naive-batched": 2048}
"""RAIN without any reuse: the same draws, every sequence forwarded from its first token on in every step, and tokens
of one forward at most. naive, as the released code: a forward for every sequence. naive-batched: those of a step and
of equal length together. Equal sequences of one step are forwarded once, so both are rather too cheap.
"""


GUARD = "care"
"""The same loop as published guards have it (`CritiqueDecoder`), with RAIN's judge."""
NAMES = (*PLAIN, *NAIVE, GUARD, *(f"{preset}{judge}" for preset in PRESETS for judge in ("", *JUDGES)))
EVERYWHERE = ("generate", "plain", "fast", "balanced", "balanced:read")
"""What is compared on a model of one's own."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers in their prompts' order; `first_release` are the seconds until the first text, where they are known."""

    texts: list[str]
    tokens_released: int
    first_release: float | None
    rewinds: int = 0


class Contender(Protocol):
    """Something that answers prompts. Slots are tokens whose keys and values are held."""

    name: str
    pinned_slots: int
    """What `reset` leaves."""

    @property
    def peak_slots(self) -> int:
        """The most since `reset`, pinned ones included."""
        ...

    def reset(self) -> None:
        """Forget every conversation."""
        ...

    def counted(self, model: Any) -> AbstractContextManager[Forwards]:
        """Count its forwards meanwhile, on the torch `model` where there is one."""
        ...

    def answer(
        self, prompts: Sequence[PromptLike], *, max_tokens: int, concurrency: int, seed: int
    ) -> Answers:
        """Answer the prompts, `concurrency` at a time. A single one is streamed."""
        ...


class DecoderContender:
    """One of our decoders on a backend of its own."""

    def __init__(self, name: str, decoder: Decoder):
        self.name, self.decoder = name, decoder
        self.reset()

    def reset(self) -> None:
        backend = self.decoder.backend
        backend.clear()
        self.pinned_slots = backend.counters.peak_kv_slots = backend.counters.kv_slots

    def counted(self, model: Any) -> AbstractContextManager[Forwards]:
        """See `Contender.counted`."""
        if model is not None:
            return count_forwards(model)
        assert isinstance(self.decoder.backend, LocalBackend)
        return count_steps(self.decoder.backend)

    @property
    def peak_slots(self) -> int:
        return self.decoder.backend.counters.peak_kv_slots

    def answer(
        self, prompts: Sequence[PromptLike], *, max_tokens: int, concurrency: int, seed: int
    ) -> Answers:
        options: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
        if len(prompts) == 1:
            return self._stream(prompts[0], options)
        finished = dict(self.decoder.iterate_batch(prompts, concurrency=concurrency, **options))
        completions = [finished[index] for index in range(len(prompts))]
        released = sum(len(completion.tokens) for completion in completions)
        rewinds = sum(completion.usage.rewinds for completion in completions)
        return Answers([completion.text for completion in completions], released, None, rewinds)

    def _stream(self, prompt: PromptLike, options: dict[str, Any]) -> Answers:
        first, started = None, time.perf_counter()
        with self.decoder.stream(prompt, **options) as stream:
            for commit in stream:
                if first is None and commit.text:
                    first = time.perf_counter() - started
        completion = stream.completion
        assert completion is not None
        return Answers([completion.text], len(completion.tokens), first, completion.usage.rewinds)


class GenerateContender:
    """`model.generate`, greedy, in padded batches. Its first release is its first token."""

    name = "generate"
    pinned_slots = 0

    def __init__(self, model: Any, backend: Backend):
        self.model, self.backend = model, backend
        self.reset()

    def reset(self) -> None:
        self.peak_slots = 0

    def counted(self, model: Any) -> AbstractContextManager[Forwards]:
        """See `Contender.counted`."""
        return count_forwards(model)

    def answer(
        self, prompts: Sequence[PromptLike], *, max_tokens: int, concurrency: int, seed: int
    ) -> Answers:
        from rain_decoding.benchmarks.speed.generate import generate

        texts, released, first, started = [], 0, None, time.perf_counter()
        for begin in range(0, len(prompts), concurrency):
            built = [build_prompt(prompt, self.backend) for prompt in prompts[begin : begin + concurrency]]
            tokens = [prompt.tokens for prompt in built]
            markers = [prompt.markers for prompt in built]
            answers, stopping = generate(self.model, self.backend.codec, tokens, markers, max_tokens)
            texts += [answer_text(self.backend.codec, *pair) for pair in zip(built, answers, strict=True)]
            released += sum(map(len, answers))
            longest = max(map(len, tokens)) + max(map(len, answers)) - 1
            self.peak_slots = max(self.peak_slots, len(built) * longest)
            if len(prompts) == 1 and stopping.first is not None:
                first = stopping.first - started
        return Answers(texts, released, first)


class LlamaContender:
    """llama.cpp's own loop, greedy, one prompt after the other. Its first release is its first token."""

    name = "generate"
    pinned_slots = 0

    def __init__(self, backend: LocalBackend):
        from rain_decoding.benchmarks.speed.llama_loop import LlamaLoop

        self.backend, codec, engine = backend, cast(Any, backend.codec), cast(Any, backend.engine)
        self.loop = LlamaLoop(codec.model, codec, engine.threads, backend.context_length)
        self.reset()

    def reset(self) -> None:
        self.peak_slots = 0

    @contextmanager
    def counted(self, model: Any) -> Iterator[Forwards]:
        """See `Contender.counted`."""
        forwards, loop = Forwards(), self.loop
        loop.passes, loop.tokens, loop.marks = 0, 0, forwards.marks
        yield forwards
        forwards.passes, forwards.tokens = loop.passes, loop.tokens

    def answer(
        self, prompts: Sequence[PromptLike], *, max_tokens: int, concurrency: int, seed: int
    ) -> Answers:
        texts, released, first, started = [], 0, None, time.perf_counter()
        for built in [build_prompt(prompt, self.backend) for prompt in prompts]:
            tokens: Tokens = ()
            for token in self.loop.answer(built.tokens, built.markers, max_tokens):
                first = first or time.perf_counter() - started
                tokens = (*tokens, token)
            texts.append(answer_text(self.backend.codec, built, tokens))
            released += len(tokens)
            self.peak_slots = max(self.peak_slots, len(built.tokens) + len(tokens) - 1)
        return Answers(texts, released, first if len(prompts) == 1 else None)


def torch_model(backend: Backend) -> Any:
    """The torch model that a backend runs; None if it runs none."""
    return getattr(getattr(backend, "engine", None), "model", None)


def check_names(names: Sequence[str], known: Sequence[str] = NAMES) -> None:
    """Raises `InputError` for an unknown or repeated name."""
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"unknown contenders: {', '.join(unknown)}", hint=f"contenders: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise InputError(f"contenders {list(names)}", hint="name each contender once")


def make_contenders(names: Sequence[str], backend: LocalBackend, judge: JudgeOptions) -> list[Contender]:
    """The contenders of these `NAMES` on a model; ours have a cache each over the same weights.

    Raises:
        UnsupportedError: a contender needs another kind of model.
    """
    torch = torch_model(backend) is not None
    needed = {*NAIVE} | (set() if isinstance(backend.engine, LlamaCppEngine) else {"generate"})
    if not torch and (missing := needed & set(names)):
        raise UnsupportedError(
            f"{', '.join(sorted(missing))} needs a model on transformers, and {backend.name} is not",
            hint="use --model hf:NAME, or other contenders",
        )
    return [_make(name, backend, judge) for name in names]


def _make(name: str, backend: LocalBackend, judge: JudgeOptions) -> Contender:
    if name == "generate":
        model = torch_model(backend)
        return LlamaContender(backend) if model is None else GenerateContender(model, backend)
    own = _beside(backend, NAIVE.get(name))
    if name == "plain":
        return DecoderContender(name, PlainDecoder(own))
    if name == GUARD:
        return DecoderContender(name, judge.guard(own))
    return DecoderContender(name, judge.decoder(NAIVE_PRESET if name in NAIVE else name, own))


def _beside(backend: LocalBackend, naive: int | None) -> LocalBackend:
    """Another backend over the same weights, with an empty cache, or, for a `naive` one, with none at all."""
    engine: Engine
    if isinstance(backend.engine, LlamaCppEngine):
        engine = backend.engine.another()
    elif (model := torch_model(backend)) is None:
        return backend
    else:
        engine = _on_torch(model, backend, naive)
    return LocalBackend(
        backend.name,
        engine,
        backend.codec,
        fingerprint=backend.fingerprint,
        criteria_dirs=backend.criteria_dirs,
        dialogue_header=backend.dialogue_header,
        prompt_token_cost=backend.capabilities.prompt_token_cost,
    )


def _on_torch(model: Any, backend: LocalBackend, naive: int | None) -> Engine:
    from rain_decoding.backends.transformers.plain import PlainEngine
    from rain_decoding.backends.transformers.probe import choose_engine

    if naive:
        return PlainEngine(model, backend.context_length, max_step_tokens=naive)
    return choose_engine(model, backend.context_length, name=backend.name)
