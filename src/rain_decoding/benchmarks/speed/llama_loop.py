"""llama.cpp's own greedy decoding by its own sampler and default settings: the other plain decoding of a GGUF file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cyllama.llama import llama_cpp

from rain_decoding.backends.base import Codec
from rain_decoding.backends.endings import holds_marker
from rain_decoding.types import Stop, Tokens

CHUNK = 512
"""Tokens of one decode."""


@dataclass
class LlamaLoop:
    """A context and a sampler of its own over the weights of `model`, on so many threads."""

    model: Any
    codec: Codec
    threads: int
    length: int
    """Tokens of a prompt and its answer together, at most."""
    passes: int = 0
    tokens: int = 0
    marks: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each decode."""

    def __post_init__(self) -> None:
        params = llama_cpp.LlamaContextParams()
        params.n_ctx, params.n_batch = self.length, CHUNK
        params.n_threads = params.n_threads_batch = self.threads
        self._context = llama_cpp.LlamaContext(self.model, params)
        self._batch = llama_cpp.LlamaBatch(n_tokens=CHUNK, embd=0, n_seq_max=1)
        self._sampler = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
        self._sampler.add_greedy()

    def answer(self, prompt: Tokens, markers: tuple[str, ...], max_tokens: int) -> Iterator[int]:
        """The answer's tokens, until an end of sequence, a marker or `max_tokens`."""
        self._context.kv_cache_clear(False)
        stop, text = Stop(markers, len(prompt)), prompt
        for start in range(0, len(prompt), CHUNK):
            self._decode(prompt[start : start + CHUNK], start)
        for place in range(max_tokens):
            if place:
                self._decode(text[-1:], len(text) - 1)
            text = (*text, token := self._sampler.sample(self._context, -1))
            yield token
            if token in self.codec.eos or holds_marker(self.codec, text, stop, new=1):
                return

    def _decode(self, tokens: Tokens, start: int) -> None:
        self._batch.reset()
        for place, token in enumerate(tokens):
            self._batch.add(token, start + place, [0], place == len(tokens) - 1)
        begin = time.perf_counter()
        self._context.decode(self._batch)
        self._context.synchronize()
        self.marks.append((begin, time.perf_counter()))
        self.passes, self.tokens = self.passes + 1, self.tokens + len(tokens)
