#!/usr/bin/env python3
"""Peers that do their work before the same server and model: `python -m real_models.peers --url http://127.0.0.1:8000`.

The server is `rain serve --model MODEL --client-may plain`: what it serves as NAME:plain is plain decoding, which the
peers of optillm (`bon`, best of 3 by the model's own ratings; `self_consistency`, the largest cluster of 5 answers) ask
for as often as they like; what it serves as NAME is RAIN. In turns, on everyday requests: seconds of an answer, and
tokens that the server forwarded for it. Needs the packages openai and optillm.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openai import OpenAI

from rain_decoding.benchmarks.speed.prompts import everyday_prompts
from rain_decoding.errors import InputError

SYSTEM = "You are a helpful assistant."
PEERS = {
    "optillm bon": ("optillm.bon", "best_of_n_sampling"),
    "optillm self_consistency": ("optillm.self_consistency", "advanced_self_consistency_approach"),
}
Ask = Callable[[str], object]


class Counted:
    """An OpenAI client of which only chat completions are used; counts what they cost."""

    def __init__(self, client: OpenAI):
        self.client, self.tokens, self.calls = client, 0, 0
        self.chat = self.completions = self

    def create(self, **request: Any) -> Any:
        """As the client's, with the tokens that the server forwarded added up."""
        answer = self.client.chat.completions.create(**request)
        self.tokens += (answer.model_extra or {})["rain"]["search_tokens"]
        self.calls += 1
        return answer


def served(names: Sequence[str]) -> str:
    """The first model that a server has both as NAME and as NAME:plain. Raises `InputError` where there is none."""
    for name in names:
        if f"{name}:plain" in names:
            return name
    raise InputError(
        f"the server has no model both as NAME and as NAME:plain, only {', '.join(names) or 'none at all'}",
        hint="start it by rain serve --model MODEL --client-may plain",
    )


def contenders(client: Counted, name: str, max_tokens: int) -> Iterator[tuple[str, Ask]]:
    """By name, what makes an answer to a request."""

    def chat(model: str) -> Ask:
        def ask(prompt: str) -> object:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
            return client.create(model=model, messages=messages, max_tokens=max_tokens)

        return ask

    yield "plain", chat(f"{name}:plain")
    yield "RAIN", chat(name)
    for peer, (module, function) in PEERS.items():
        approach = getattr(importlib.import_module(module), function)

        def ask(prompt: str, approach: Callable[..., object] = approach) -> object:
            chosen = {"max_tokens": max_tokens}
            return approach(SYSTEM, prompt, client, f"{name}:plain", request_config=chosen)

        yield peer, ask


def measured(asks: Mapping[str, Ask], client: Counted, prompts: list[str], repeats: int) -> Iterator[str]:
    """Lines of Markdown: medians, and the quartiles of the times beside plain decoding's on the same request.

    There must be two requests or more, repeated ones included.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    tokens: dict[str, list[int]] = defaultdict(list)
    calls: dict[str, int] = defaultdict(int)
    for _ in range(repeats):
        for prompt in prompts:
            for name, ask in asks.items():
                client.tokens = client.calls = 0
                started = time.perf_counter()
                ask(prompt)
                seconds[name].append(time.perf_counter() - started)
                tokens[name].append(client.tokens)
                calls[name] += client.calls
    yield "| | seconds an answer | times plain decoding's | tokens forwarded | requests |"
    yield "|---|---|---|---|---|"
    for name in asks:
        ratios = [ours / plain for ours, plain in zip(seconds[name], seconds["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        beside = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        yield (
            f"| {name} | {statistics.median(seconds[name]):.2f} | {beside} | {statistics.median(tokens[name]):.0f} | "
            f"{calls[name] / len(seconds[name]):.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of `rain serve --client-may plain`")
    parser.add_argument("--n", type=int, default=4, help="requests")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=48)
    options = parser.parse_args(arguments)
    if options.n * options.repeats < 2:
        parser.error("quartiles need two answers: --n 2, or --repeats 2")
    (prompts,) = everyday_prompts(options.n).values()
    with OpenAI(base_url=f"{options.url}/v1", api_key="any", timeout=600) as client:
        name = served([each.id for each in client.models.list()])
        counted = Counted(client)
        asks = dict(contenders(counted, name, options.max_tokens))
        for ask in asks.values():
            ask(prompts[0])  # whatever is loaded at first use
        for line in measured(asks, counted, prompts, options.repeats):
            print(line)


if __name__ == "__main__":
    main()
