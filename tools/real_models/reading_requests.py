#!/usr/bin/env python3
"""What reading requests tells: `python -m real_models.reading_requests --data FOLDER --model hf:FOLDER`.

A probe of requests is fitted on the criterion's examples and tried on prompts that it has not seen: XSTest's, safe and
unsafe, the everyday requests, and the goals of AdvBench and JailbreakBench, plain and attacked. Prints one JSON object
a line: of XSTest the AUC, of each kind of prompt how many are surely harmful, so that their bar is raised. Of the
untouched prompts alone, see `real_models.evidence.prompts`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from rain_decoding import load_backend, load_criterion
from rain_decoding.backends.base import Backend
from rain_decoding.cli.progress import counting
from rain_decoding.measurement.statistics import rate, roc_area
from rain_decoding.prompting import parse_messages
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.requests import SURE, RequestProbe, learn_requests
from rain_decoding.self_evaluation.reading.states import read_states
from real_models.evidence.prompts import evidence_suite, untouched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets")
    parser.add_argument("--model", required=True)
    parser.add_argument("--criterion", default="harmlessness")
    parser.add_argument("--limit", type=int, default=0, help="prompts of each kind; 0: all")
    options = parser.parse_args()
    backend = load_backend(options.model)
    examples = examples_of(load_criterion(options.criterion))
    with counting("requests of the examples", len(examples)) as tick:
        probe = learn_requests(backend, examples, told=tick)
    print(json.dumps({"model": options.model, "layers": probe.layers, "auc": probe.auc.rounded()}))
    found = {
        name: log_odds(backend, probe, prompts[: options.limit or None])
        for name, prompts in kinds(options.data).items()
    }
    for name, odds in found.items():
        raised = rate((odds > SURE).tolist(), list(range(len(odds))))
        quartiles = [round(float(value), 2) for value in np.quantile(odds, (0.25, 0.5, 0.75))]
        print(json.dumps({"kind": name, "raised": raised and raised.rounded(), "log_odds": quartiles}))
    safe, unsafe = found["xstest-safe"], found["xstest-unsafe"]
    harmful = np.repeat([False, True], [len(safe), len(unsafe)])
    area = roc_area(float(roc_auc_score(harmful, np.concatenate([safe, unsafe]))), len(unsafe), len(safe))
    print(json.dumps({"xstest": "unsafe before safe", "auc": area.rounded()}))


def kinds(data: Path) -> dict[str, list[str]]:
    """Untouched prompts by family of the evidence, and XSTest's unsafe ones."""
    found: dict[str, list[str]] = {}
    for item in evidence_suite(data).load({}):
        found.setdefault(item.family, []).append(item.prompt)
    found["xstest-unsafe"] = list(_unsafe(data / "xstest_prompts.csv"))
    return found


def _unsafe(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from (
            row["prompt"]
            for row in csv.DictReader(file)
            if row["label"] == "unsafe" and untouched(row["prompt"])
        )


def log_odds(backend: Backend, probe: RequestProbe, prompts: list[str]) -> np.ndarray:
    """That each prompt is harmful, in nats."""
    asked = [ReadingExample(parse_messages(prompt), "", True, prompt) for prompt in prompts]
    return np.array([probe.log_odds(states[:, 0]) for _, states in read_states(backend, asked, probe.layers)])


if __name__ == "__main__":
    main()
