"""Load on `rain serve` with the demo model: every answer is checked against the same seed alone.

    python tests/load/serve_load.py --clients 32 --seconds 120
    python tests/load/serve_load.py --clients 64 --seconds 60 --leaving 0.3 --hostile

One client first, for comparison; then many, half of them streaming, a fifth leaving midway, some sending nonsense;
`--repeat` times in turn, since a shared machine is not the same for long. The one asks other requests than the many,
and there are to be so many that none is answered from the prefix cache. Prints a JSON report; exits 1 where an answer
was wrong or a request failed. An answer may differ where it hangs on a draw that float noise decides: then the library
gives several answers, too, once its logits are moved by `NOISE`. With `--hostile` the many ask once more while two
further clients do their worst: one sends prompts that are refused, the other bodies that are wrong, both without a
pause.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from server.running import Running, serving_process

from rain_decoding import RainDecoder, load_backend
from rain_decoding.backends.base import Forwarded
from rain_decoding.microworld import example_prompts

NONSENSE = 0.05
"""Share of the requests that are broken."""
NOISE, TRIES = 1e-5, 8
"""By how much a logit is moved at most to find draws without a margin, and how often that is tried."""

Case = tuple[str, int]
"""Prompt and seed."""


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    noisy: list[dict[str, Any]] = field(default_factory=list)
    first_release: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    """Seconds of whole answers."""
    released_tokens: float = 0
    """Tokens of answers as the server counts them, those of clients that left included."""
    seconds: float = 0
    longest_queue: float = 0

    @property
    def failures(self) -> int:
        """Requests that ended with a 5xx."""
        return sum(n for status, n in self.statuses.items() if status.split()[-1].startswith("5"))

    @property
    def token_rate(self) -> float:
        """Tokens released a second."""
        return self.released_tokens / self.seconds


@dataclass
class Load:
    """Clients that ask for the `cases` over and over, until `end`."""

    url: str
    expected: dict[Case, str]
    tally: Tally
    end: float
    mixed: bool
    leaving: float
    """Share of the requests whose client leaves after the first text."""

    async def client(self, number: int, cases: Iterator[Case]) -> None:
        rng = random.Random(number)
        async with httpx2.AsyncClient(base_url=self.url, timeout=300) as http:
            while time.monotonic() < self.end:
                if self.mixed and rng.random() < NONSENSE:
                    headers = {"content-type": "application/json"}
                    response = await http.post(
                        "/v1/chat/completions", content=rng.randbytes(50), headers=headers
                    )
                    self.tally.statuses[f"nonsense {response.status_code}"] += 1
                    continue
                leaves = self.mixed and rng.random() < self.leaving
                await self.ask(http, next(cases), streamed=leaves or rng.random() < 0.5, leaves=leaves)

    async def ask(self, http: httpx2.AsyncClient, case: Case, *, streamed: bool, leaves: bool) -> None:
        prompt, seed = case
        body: dict[str, Any] = {
            "model": "demo",
            "messages": [{"role": "user", "content": prompt}],
            "seed": seed,
        }
        body |= {"temperature": 1, "stream": streamed}
        started = time.monotonic()
        if streamed:
            text, status = await self.read(http, body, leaves)
        else:
            response = await http.post("/v1/chat/completions", json=body)
            status, answer = response.status_code, response.json()
            text = answer["choices"][0]["message"]["content"] if status == 200 else ""
        self.tally.statuses["left" if leaves and status == 200 else str(status)] += 1
        if status == 200 and not leaves:
            self.tally.answered.append(time.monotonic() - started)
        expected = self.expected[case]
        if status == 200 and not (expected.startswith(text) if leaves else text == expected):
            self.tally.wrong.append({"prompt": prompt, "seed": seed, "text": text, "expected": expected})
        if status == 429:
            await asyncio.sleep(0.5)

    async def read(self, http: httpx2.AsyncClient, body: dict[str, Any], leaves: bool) -> tuple[str, int]:
        """Text and status of a stream, up to its first text where the client leaves then."""
        started, text = time.monotonic(), ""
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return "", response.status_code
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                for choice in chunk["choices"]:
                    piece = choice["delta"].get("content")
                    if piece and not text:
                        self.tally.first_release.append(time.monotonic() - started)
                    text += piece or ""
                if leaves and text:
                    break
        return text, 200

    async def hostile(self, bodies: Iterator[str]) -> None:
        """Bodies that are refused, one after the other."""
        headers = {"content-type": "application/json"}
        async with httpx2.AsyncClient(base_url=self.url, timeout=300) as http:
            while time.monotonic() < self.end:
                response = await http.post("/v1/chat/completions", content=next(bodies), headers=headers)
                self.tally.statuses[f"hostile {response.status_code}"] += 1


def refused_prompts() -> Iterator[str]:
    """Prompts of 256 KiB that no context holds."""
    texts = [
        f"{number} " + text * 2**18 for number in range(5) for text in ("<|end|>", "nut roll ", "é🙂", "x")
    ]
    contents = [text.encode()[: 2**18 - 100].decode(errors="ignore") for text in texts]
    messages = [[{"role": "user", "content": content}] for content in contents]
    return itertools.cycle([json.dumps({"model": "demo", "messages": each}) for each in messages])


def hostile_bodies() -> Iterator[str]:
    """Bodies of nearly 1 MiB with a fault in every entry."""
    wrong = [
        '{"model": "demo", "messages": [' + ",".join(["0"] * 480_000) + "]}",
        '{"model": "demo", "messages": [' + ",".join(['{"role": "user"}'] * 55_000) + "]}",
        '{"model": "demo", "messages": [], ' + ",".join(f'"x{i}": 0' for i in range(80_000)) + "}",
        '{"model": "demo", "messages": ' + "[" * 500_000,
        '{"model": "demo", "logit_bias": {' + ",".join(f'"{i}": "x"' for i in range(70_000)) + "}}",
    ]
    return itertools.cycle(wrong)


async def run(
    running: Running,
    expected: dict[Case, str],
    clients: int,
    seconds: float,
    *,
    mixed: bool,
    leaving: float = 0.0,
    hostile: bool = False,
) -> Tally:
    tally = Tally()
    load = Load(running.url, expected, tally, time.monotonic() + seconds, mixed, leaving)
    disturbing = [load.hostile(refused_prompts()), load.hostile(hostile_bodies())] if hostile else []
    cases = itertools.cycle(expected)

    async def watch() -> None:
        while True:
            waiting = await asyncio.to_thread(running.metric, "rain_queue_length")
            tally.longest_queue = max(tally.longest_queue, waiting)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    started, before = time.monotonic(), running.metric("rain_completion_tokens_total")
    await asyncio.gather(*(load.client(number, cases) for number in range(clients)), *disturbing)
    watching.cancel()
    tally.seconds = time.monotonic() - started
    tally.released_tokens = running.metric("rain_completion_tokens_total") - before
    return tally


def alone(prompts: int, seeds: int) -> dict[Case, str]:
    """The answers that the library gives to each prompt and seed by itself."""
    decoder = RainDecoder(load_backend("demo"))
    asked = [*example_prompts("sensitive", prompts), *example_prompts("benign", prompts)]
    return {
        (prompt, seed): decoder.generate(prompt, seed=seed, temperature=1.0).text
        for seed in range(seeds)
        for prompt in asked
    }


def torn(cases: set[Case]) -> set[Case]:
    """Those of the cases whose answer float noise decides."""
    backend = load_backend("demo")
    decoder, engine = RainDecoder(backend), backend.engine
    exact = engine.forward

    def answers(case: Case) -> Iterator[str]:
        for attempt in range(TRIES):
            rng = np.random.default_rng(attempt)

            def moved(*asked: Any, rng: np.random.Generator = rng) -> Forwarded:
                logits, *counts = exact(*asked)
                return Forwarded(
                    logits + rng.uniform(-NOISE, NOISE, logits.shape).astype(logits.dtype), *counts
                )

            engine.forward = moved
            backend.clear()
            yield decoder.generate(case[0], seed=case[1], temperature=1.0).text

    return {case for case in cases if len(set(answers(case))) > 1}


def set_apart(tallies: Iterable[Tally]) -> None:
    """Count answers that float noise decides apart from wrong ones."""
    tallies = list(tallies)
    noisy = torn({(w["prompt"], w["seed"]) for tally in tallies for w in tally.wrong})
    for tally in tallies:
        tally.noisy = [w for w in tally.wrong if (w["prompt"], w["seed"]) in noisy]
        tally.wrong = [w for w in tally.wrong if (w["prompt"], w["seed"]) not in noisy]


def described(tally: Tally) -> dict[str, Any]:
    answered = tally.statuses["200"]
    return {
        "statuses": dict(sorted(tally.statuses.items())),
        "answers_per_second": round(answered / tally.seconds, 3),
        "tokens_per_second": round(tally.token_rate, 2),
        "first_release_seconds": percentiles(tally.first_release),
        "answer_seconds": percentiles(tally.answered),
        "longest_queue": tally.longest_queue,
        "wrong": tally.wrong[:5],
        "wrong_answers": len(tally.wrong),
        "decided_by_float_noise": len(tally.noisy),
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(seconds, p)), 3) for p in (50, 95) if seconds}


def resident(running: Running) -> int:
    """Memory of the server, MiB."""
    assert running.process is not None
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def settle(running: Running) -> None:
    while running.metric("rain_running") + running.metric("rain_queue_length"):
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--alone-seconds", type=float, default=30)
    parser.add_argument("--prompts", type=int, default=80, help="of each family")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--max-concurrent", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--leaving", type=float, default=0.2, help="share of clients that leave midway")
    parser.add_argument(
        "--hostile", action="store_true", help="ask once more while two clients do their worst"
    )
    arguments = parser.parse_args()
    expected = list(alone(arguments.prompts, arguments.seeds).items())
    of_one, of_many = dict(expected[::3]), dict([*expected[1::3], *expected[2::3]])
    with serving_process("--model", "demo", "--max-concurrent", str(arguments.max_concurrent)) as running:
        rounds, failed = [], False
        for _ in range(arguments.repeat):
            one = asyncio.run(run(running, of_one, 1, arguments.alone_seconds, mixed=False))
            before = resident(running)
            crowd = partial(run, running, of_many, arguments.clients, arguments.seconds, mixed=True)
            phases = {f"{arguments.clients} clients": (many := asyncio.run(crowd(leaving=arguments.leaving)))}
            settle(running)
            if arguments.hostile:
                disturbed = asyncio.run(crowd(leaving=arguments.leaving, hostile=True))
                phases[f"{arguments.clients} clients, disturbed"] = disturbed
                settle(running)
            set_apart((one, *phases.values()))
            failed |= any(tally.wrong or tally.failures for tally in (one, *phases.values()))
            rounds.append(
                {
                    "one client": described(one),
                    **{name: described(tally) for name, tally in phases.items()},
                    "times": round(many.token_rate / one.token_rate, 2),
                    "MiB": {"before": before, "after": resident(running)},
                    "kv_slots": running.metric("rain_kv_slots"),
                }
            )
    times = sorted(entry["times"] for entry in rounds)
    json.dump({"rounds": rounds, "times": times}, sys.stdout, indent=2)
    return failed


if __name__ == "__main__":
    sys.exit(main())
