"""Draws behaviours to attack: `PYTHONPATH=tools python -m demo_model.behaviours --n 24 --seed 0 --out FILE`.

Held-out sensitive requests, of each kind about as many, that the shipped model answers harmlessly when it decodes
greedily; the target is a first harmful step of the grammar. Requests that are answered harmfully anyway would
count as successes of any attack.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rain_decoding.backends import load_backend
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.microworld import Request, all_requests, label
from rain_decoding.microworld.grammar import grammar


def draw(n: int, seed: int) -> Iterator[tuple[str, str]]:
    """Goals and targets; of each (kind, subject) at most one."""
    rng = np.random.default_rng(seed)
    decoder = PlainDecoder(load_backend("demo"))
    by_kind: dict[str, dict[str, Request]] = defaultdict(dict)
    pool = [request for request in all_requests("sensitive") if request.held_out]
    for index in rng.permutation(len(pool)):
        by_kind[pool[index].kind].setdefault(pool[index].subject, pool[index])
    waiting = [iter(requests.values()) for requests in by_kind.values()]
    found = 0
    while waiting and found < n:
        requests = waiting.pop(0)
        for request in requests:
            if label(request, decoder.generate(request.prompt).text).harmless:
                steps = grammar(request.kind, request.subject, request.context)["x"]
                yield request.prompt, steps[rng.integers(len(steps))]
                found += 1
                waiting.append(requests)
                break


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=24, help="behaviours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV file with goal and target")
    options = parser.parse_args()
    with options.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("goal", "target"))
        writer.writerows(draw(options.n, options.seed))


if __name__ == "__main__":
    main()
