"""Time and memory on one accelerator: plain decoding, `generate`, `balanced` asking and reading, one and many at once.

    python tools/real_models/gpu.py FOLDER... --out speed-gpu.json

Each FOLDER is a model of transformers. Without weights (only its configuration and tokenizer) they are drawn:
the forwards are the same, and since such a model judges nothing, every text is then accepted. One result per model is
written as soon as it is there; what fails is noted, and the next is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rain_decoding import RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers import wrap
from rain_decoding.benchmarks.speed import modes
from rain_decoding.benchmarks.speed.contenders import make_contenders
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.measuring import SpeedPlan
from rain_decoding.benchmarks.speed.prompts import everyday_prompts

CONTENDERS = ("plain", "generate", "balanced", "balanced:read")
COLUMNS = ("seconds", "overhead", "passes", "tokens_forwarded", "answers_per_second", "tokens_per_second")


class Accepting(JudgeOptions):
    """Judges as ever, and accepts everything: for weights that are drawn."""

    def decoder(self, name: str, backend: Backend) -> RainDecoder:
        preset, _, judge = name.partition(":")
        config = SearchConfig.preset(preset, accept_value=-1.0, undecided_margin=0.0, min_label_mass=0.0)
        return RainDecoder(backend, self.criterion(config.criterion, backend), config, judge=judge or "ask")


def load(folder: Path, device: str, dtype: str) -> tuple[LocalBackend, JudgeOptions]:
    """The model of a folder, and how it judges."""
    if any(folder.glob("*.safetensors")):
        backend = load_backend(f"hf:{folder}", device=device, dtype=dtype)
        assert isinstance(backend, LocalBackend)
        return backend, JudgeOptions()
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder), dtype=getattr(torch, dtype)
        )
    return wrap(model, AutoTokenizer.from_pretrained(folder), name=folder.name), Accepting()


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All contenders on one model."""
    started = time.perf_counter()
    backend, judge = load(folder, options.device, options.dtype)
    loaded = time.perf_counter()
    names = [name for name in CONTENDERS if not (options.ask_only and name.endswith(":read"))]
    contenders = make_contenders(names, backend, judge)
    ready = time.perf_counter()
    prompts = everyday_prompts(max(options.n, options.at_once))["everyday"]
    reports = []
    for concurrency, asked in ((1, prompts[: options.n]), (options.at_once, prompts[: options.at_once])):
        plan = SpeedPlan(
            families={"everyday": asked},
            max_tokens=(options.max_tokens,),
            concurrency=(concurrency,),
            repeats=options.repeats,
        )
        reports.append(modes.compare(plan, contenders, backend, lambda items, total: items))
    return {
        "model": folder.name,
        "weights": "drawn" if isinstance(judge, Accepting) else "real",
        "date": date.today().isoformat(),
        "options": {name: str(value) for name, value in vars(options).items()},
        "seconds": {
            "loading": loaded - started,
            "judges": ready - loaded,
            "all": time.perf_counter() - started,
        },
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "machine": reports[0]["machine"],
        "engine": reports[0]["engine"],
        "results": [result for report in reports for result in report["results"]],
    }


def show(found: dict[str, Any]) -> None:
    """A line per contender."""
    print(f"\n{found['model']} ({found['weights']} weights), {found['machine']['device']}, {found['engine']}")
    for result in found["results"]:
        cells = []
        for name in COLUMNS:
            value = result[name]
            cells.append(f"{name} {value['median'] if isinstance(value, dict) else value:.4g}")
        print(f"  {result['concurrency']:>3} at once  {result['contender']:<14}", ", ".join(cells))


def main() -> int:
    """Measure every folder; 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--n", type=int, default=6, help="prompts asked one at a time")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ask-only", action="store_true", help="without scikit-learn")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    failed = False
    for folder in options.folders:
        try:
            found.append(measure(folder, options))
        except Exception:
            traceback.print_exc()
            failed = True
            continue
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
        show(found[-1])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
