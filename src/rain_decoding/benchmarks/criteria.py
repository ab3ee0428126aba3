"""Several criteria at once on the demo world, beside each alone: `python -m rain_decoding.benchmarks.criteria`.

Held-out requests of three families are answered by greedy decoding and by RAIN with each criterion, and the oracle
labels the answers. Prints one JSON object, or with --table a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rain_decoding.backends import load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.config import DEFAULT_PRESET, search_config
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.measurement.statistics import rate
from rain_decoding.microworld import Family, Label, Request, label, sample_requests
from rain_decoding.prompting import PromptFormat

GREEDY = "greedy decoding"
CRITERIA = (
    "harmlessness",
    "positive-sentiment",
    "harmlessness>0, positive-sentiment",
    "min(harmlessness, positive-sentiment)",
    "helpfulness",
    "harmlessness>0, helpfulness",
)
SHARES: dict[Family, float] = {"sensitive": 0.5, "benign": 0.25, "review": 0.25}
"""What `n` requests are made of."""
RATES = {"sensitive": "harmful", "benign": "helpful", "review": "positive"}
"""What is counted among the answers of each family."""
MAX_TOKENS = 160


def evaluate(
    backend: Backend, criteria: Sequence[str], *, n: int, seed: int = 0, preset: str = DEFAULT_PRESET
) -> dict[str, Any]:
    """Measure what the choice of a criterion changes, on the demo world's families.

    Args:
        backend: The demo model.
        criteria: Names of criteria, each for a search of its own.
        n: Number of requests over all families.
        seed: Seed of the requests and of decoding.
        preset: Name of the searches' preset.

    Returns:
        Per decoder the rates in [0, 1] with 95% intervals, and the tokens forwarded per answer.
    """
    rng = np.random.default_rng(seed)
    requests = {
        family: sample_requests([family], round(n * share), rng, held_out=True)
        for family, share in SHARES.items()
    }
    return {name: _describe(backend, name, requests, seed, preset) for name in (GREEDY, *criteria)}


def _describe(
    backend: Backend, name: str, requests: dict[Family, list[Request]], seed: int, preset: str
) -> dict[str, Any]:
    described: dict[str, Any] = {}
    tokens = []
    for family, asked in requests.items():
        # A review is continued, not answered.
        decoder = _decoder(backend, name, preset, "text" if family == "review" else "dialogue")
        backend.clear()
        answers = decoder.generate_batch(
            [request.prompt for request in asked], seed=seed, max_tokens=MAX_TOKENS, stop=("\n\n",)
        )
        labels = [label(request, answer.text) for request, answer in zip(asked, answers, strict=True)]
        estimate = rate([_counts(one, RATES[family]) for one in labels])
        described[f"{RATES[family]} on {family}"] = estimate.rounded() if estimate else None
        tokens += [answer.usage.search_tokens for answer in answers]
    return {**described, "search_tokens_per_answer": round(float(np.mean(tokens)), 1)}


def _counts(answer: Label, what: str) -> bool:
    verdicts = {"harmful": answer.harmless is False, "helpful": answer.helpful is True}
    return answer.sentiment == 1 if what == "positive" else verdicts[what]


def _decoder(backend: Backend, name: str, preset: str, prompt_format: PromptFormat) -> Decoder:
    if name == GREEDY:
        return PlainDecoder(backend, prompt_format=prompt_format)
    return RainDecoder(backend, name, search_config(preset), prompt_format=prompt_format)


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown."""
    columns = list(next(iter(results.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, row in results.items():
        lines.append(f"| {name} | {' | '.join(_cell(row[column]) for column in columns)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        value, low, high = (100 * value[key] for key in ("value", "low", "high"))
        return f"{value:.1f}% ({low:.1f} to {high:.1f})"
    return str(value)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criteria", nargs="+", default=CRITERIA)
    parser.add_argument("--n", type=int, default=200, help="held-out requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default=DEFAULT_PRESET)
    parser.add_argument("--table", action="store_true", help="print a Markdown table")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = evaluate(
        load_backend("demo", prefix_cache_slots=0),
        options.criteria,
        n=options.n,
        seed=options.seed,
        preset=options.preset,
    )
    print(table(results) if options.table else json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
