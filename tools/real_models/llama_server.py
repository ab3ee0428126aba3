#!/usr/bin/env python3
"""Our plain decoding beside llama-server: `python -m real_models.llama_server FILE.gguf... --threads 2`.

In turns, round by round, with the same file: prefill of a prompt of drawn tokens and decoding behind it (tokens per
second, the server's by its own timings), and whole answers to everyday requests, greedy and without a cache of earlier
ones (seconds, the server's over HTTP on this machine). The server brings a llama.cpp of its own, so our binding's bare
loop stands beside it where it has the figure. Needs httpx and xllamacpp, which carries the server.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeVar

import httpx
import numpy as np

from rain_decoding import load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed.engine_speed import ANSWER, PROMPT, speed_of
from rain_decoding.benchmarks.speed.llama_loop import LlamaLoop
from rain_decoding.benchmarks.speed.prompts import everyday_prompts
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.types import Tokens
from real_models.serving import llama_server

Result = TypeVar("Result")
CONTEXT = 1024
PREFILL, DECODING, SECONDS = "prefill, tokens/s", "decoding, tokens/s", "an answer, s"
OURS, LOOP, THEIRS = "ours", "bare loop", "llama-server"


@contextmanager
def serving(model: Path, threads: int) -> Iterator[httpx.Client]:
    """A client of a llama-server of its own, which ends with the block."""
    with (
        llama_server(model, slots=1, threads=threads) as address,
        httpx.Client(base_url=address, timeout=600) as client,
    ):
        yield client


@dataclass(frozen=True)
class Sample:
    """One measurement of a contender, and the answer that was timed, if it was one."""

    contender: str
    figure: str
    value: float
    answer: str = ""


@dataclass(frozen=True)
class Contender:
    """What makes an answer of so many tokens at most, and how fast it reads and decodes drawn tokens, by figure."""

    answer: Callable[[Prompt, int], str]
    speeds: Callable[[Tokens], Mapping[str, float]]


def ours(backend: LocalBackend) -> Contender:
    """Our plain decoding."""
    decoder = PlainDecoder(backend)

    def answer(prompt: Prompt, most: int) -> str:
        backend.clear()
        return decoder.generate(prompt, max_tokens=most).text

    return Contender(
        answer, lambda text: dict(zip((PREFILL, DECODING), speed_of(backend, text), strict=True))
    )


def bare_loop(backend: LocalBackend) -> Contender:
    """The binding's own loop."""
    codec: Any = backend.codec
    engine: Any = backend.engine
    loop = LlamaLoop(codec.model, codec, engine.threads, CONTEXT)

    def answer(prompt: Prompt, most: int) -> str:
        return answer_text(codec, prompt, tuple(loop.answer(prompt.tokens, prompt.markers, most)))

    def speeds(text: Tokens) -> Mapping[str, float]:
        seconds, _ = timed(lambda: next(loop.answer(text[:PROMPT], (), 1)))
        return {PREFILL: PROMPT / seconds}

    return Contender(answer, speeds)


def server(client: httpx.Client) -> Contender:
    """llama-server, greedy."""

    def complete(tokens: Tokens, n: int, **others: Any) -> dict[str, Any]:
        greedy = {"temperature": 0, "samplers": ["temperature"], "cache_prompt": False}
        body = {"prompt": list(tokens), "n_predict": n, **greedy, **others}
        return client.post("/completion", json=body).raise_for_status().json()

    def speeds(text: Tokens) -> Mapping[str, float]:
        timings = complete(text[:PROMPT], ANSWER, ignore_eos=True)["timings"]
        return {PREFILL: timings["prompt_per_second"], DECODING: timings["predicted_per_second"]}

    def answer(prompt: Prompt, most: int) -> str:
        return complete(prompt.tokens, most, stop=list(prompt.markers))["content"]

    return Contender(answer, speeds)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that it takes, and what it gives."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(
    model: Path, *, threads: int, n: int, rounds: int, max_tokens: int, seed: int
) -> Iterator[Sample]:
    """What is measured of each contender, round after round; the first round does not count, and is left out."""
    backend = load_backend(f"gguf:{model}", threads=threads)
    assert isinstance(backend, LocalBackend)
    prompts = [build_prompt(prompt, backend) for prompt in everyday_prompts(n)["everyday"]]
    drawn = np.random.default_rng(seed).integers(
        0, backend.engine.vocabulary_size, (rounds + 1, PROMPT + ANSWER)
    )
    with serving(model, threads) as client:
        contenders = {OURS: ours(backend), LOOP: bare_loop(backend), THEIRS: server(client)}
        for number, text in enumerate(drawn):
            for name, contender in contenders.items():
                speeds = contender.speeds(tuple(map(int, text)))
                if number:
                    yield from (Sample(name, figure, value) for figure, value in speeds.items())
            for prompt, (name, contender) in product(prompts, contenders.items()):
                seconds, answer = timed(partial(contender.answer, prompt, max_tokens))
                if number:
                    yield Sample(name, SECONDS, seconds, answer.strip())


def table(model: str, samples: Sequence[Sample]) -> Iterator[str]:
    """A row for each figure: all contenders, ours beside the server's in pairs, and answers alike."""
    for figure in (PREFILL, DECODING, SECONDS):
        found = {
            name: [sample for sample in samples if (sample.contender, sample.figure) == (name, figure)]
            for name in (OURS, LOOP, THEIRS)
        }
        pairs = list(zip(found[OURS], found[THEIRS], strict=True))
        same = sum(own.answer == other.answer for own, other in pairs)
        cells = (
            *(spread([sample.value for sample in own]) for own in found.values()),
            spread([own.value / other.value for own, other in pairs]),
            f"{same} of {len(pairs)}" if figure == SECONDS else "",
        )
        yield f"| {model} | {figure} | {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """The median with its quartiles; of one value itself, of none a dash."""
    if len(values) < 2:
        return f"{values[0]:.3g}" if values else "-"
    low, median, high = quantiles(values, n=4, method="inclusive")
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of the models, each row as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=4, help="everyday requests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args(arguments))
    print(f"| model | | {OURS} | {LOOP} | {THEIRS} | {OURS} over {THEIRS}, paired | the same answer |")
    print("|---" * 7 + "|")
    for model in options.pop("models"):
        for line in table(model.stem, list(measure(model, **options))):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
