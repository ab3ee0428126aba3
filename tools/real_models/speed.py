"""What RAIN costs on real models beside plain decoding: one table and one picture of all of them.

    python -m real_models.speed gguf:FILE... --out speed
    python -m real_models.speed hf:FOLDER... --out speed --device cuda --dtype bfloat16 --concurrency 1,32

Every measurement is written to FOLDER as soon as it is there, and what stands there is not measured again: stopped by a
limit or Ctrl-C, the same command goes on. Each model runs in a process of its own. The judges that ask pay for
their questions, and nothing they read is called bad (`--bad-rate`), so that models whose judgement is a coin can be
compared; judges that read judge as they do. A folder of transformers without weights gets some that are drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rain_decoding import load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed import measuring
from rain_decoding.benchmarks.speed.contenders import make_contenders, torch_model
from rain_decoding.benchmarks.speed.engine_speed import engine_speed
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.machine import bytes_per_slot, describe, resident_bytes
from rain_decoding.benchmarks.speed.measurement import Measurement
from rain_decoding.benchmarks.speed.measuring import SpeedPlan
from rain_decoding.benchmarks.speed.plot import plot
from rain_decoding.benchmarks.speed.prompts import everyday_prompts
from rain_decoding.benchmarks.speed.report import summarise
from rain_decoding.measurement.records import RecordFile

CONTENDERS = "plain,generate,fast,balanced,balanced:read,care"
COLUMNS = {
    "seconds": "seconds",
    "overhead": "wall",
    "cpu_overhead": "processor",
    "passes": "passes",
    "tokens_forwarded": "tokens forwarded",
    "rewinds": "rewinds",
}
READS = ":read"
MEASURED = {"case": list, "contender": str, "unit": int, "repeat": int}


def file_name(model: str) -> str:
    """The model's name without its place."""
    return Path(model.partition(":")[2] or model).stem


def load(model: str, device: str | None, dtype: str | None, threads: int | None) -> LocalBackend:
    """The model; of a folder without weights, with weights that are drawn."""
    kind, _, place = model.partition(":")
    if kind == "hf" and Path(place).is_dir() and not any(Path(place).glob("*.safetensors")):
        return drawn(Path(place), device or "cpu", dtype or "float32")
    given = {"threads": threads} if kind == "gguf" else {"device": device, "dtype": dtype}
    backend = load_backend(model, **{name: value for name, value in given.items() if value is not None})
    assert isinstance(backend, LocalBackend)
    return backend


def drawn(folder: Path, device: str, dtype: str) -> LocalBackend:
    """A model of the folder's configuration and tokenizer with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from rain_decoding.backends.transformers import wrap

    torch.manual_seed(0)
    with torch.device(device):
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    return wrap(model, AutoTokenizer.from_pretrained(folder), name=folder.name)


def measure(model: str, options: argparse.Namespace) -> None:
    """Measure what is missing of one model, and write each figure as soon as it is there."""
    if options.threads and not model.startswith("gguf:"):
        import torch

        torch.set_num_threads(options.threads)
    backend = load(model, options.device, options.dtype, options.threads)
    file = options.out / f"{file_name(model)}.json"
    if not file.exists():
        write_facts(file, model, backend, resident_bytes())
    records = RecordFile(file.with_suffix(".jsonl"), MEASURED)
    done = {sample.key for sample in samples_of(records)}
    units = [
        unit
        for concurrency in options.concurrency
        for unit in SpeedPlan(
            families=everyday_prompts(max(options.n, concurrency)),
            max_tokens=(options.max_tokens,),
            concurrency=(concurrency,),
        ).units(backend)
    ]
    judge = JudgeOptions(bad_rate=None if options.bad_rate < 0 else options.bad_rate)
    reading = [name for name in options.contenders if READS in name]
    asking = [name for name in options.contenders if READS not in name]
    for names in (asking, reading):  # reading last: a probe may have to be fitted first
        keys = product(units, names, range(options.repeats))
        if all((unit.case, name, unit.number, repeat) in done for unit, name, repeat in keys):
            continue
        contenders = make_contenders(names, backend, judge)
        say(f"{model}: {', '.join(names)} ready")
        running = measuring.run(
            units, contenders, torch_model(backend), repeats=options.repeats, seed=options.seed, done=done
        )
        for sample in running:
            records.append(asdict(sample))
            say(f"{model}: {sample.contender}, {sample.seconds:.2f} s, {sample.tokens_forwarded} tokens")


def write_facts(file: Path, model: str, backend: LocalBackend, resident: int | None) -> None:
    """What the model runs on, its memory when it was just loaded, and how fast it reads and decodes."""
    facts = {
        "model": model,
        "date": date.today().isoformat(),
        "resident_bytes": resident,
        "bytes_per_slot": bytes_per_slot(torch_model(backend)),
        "machine": describe(backend),
        "engine": engine_speed(backend),
    }
    file.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    say(f"{model}: {facts['engine']}")


def samples_of(records: RecordFile) -> list[Measurement]:
    """The measurements of a file."""
    return [
        Measurement(**record | {"case": tuple(map(tuple, record["case"])), "texts": tuple(record["texts"])})
        for record in records.read()
    ]


def publish(out: Path) -> None:
    """Write the tables and the picture of all that was measured so far."""
    lines = ["| model | prefill, tokens/s | decoding, tokens/s | resident, MB |", "|---|---|---|---|"]
    results: list[dict[str, Any]] = []
    for file in sorted(out.glob("*.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        engine, resident = facts["engine"], facts["resident_bytes"]
        memory = "?" if resident is None else f"{resident / 1e6:.0f}"
        speeds = f"{engine['prefill_per_second']} | {engine['decode_per_second']}"
        lines.append(f"| {file.stem} | {speeds} | {memory} |")
        samples = samples_of(RecordFile(file.with_suffix(".jsonl"), MEASURED))
        if samples:
            results += [
                {"model": file.stem, **result} for result in summarise(samples, facts["bytes_per_slot"])
            ]
    lines += [
        "",
        f"| model | at once | | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for result in results:
        cells = [shown(result[name]) for name in COLUMNS]
        at_once = result["concurrency"]
        lines.append(f"| {result['model']} | {at_once} | `{result['contender']}` | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    (out / "table.md").write_text(table, encoding="utf-8")
    if results:
        varying = ["model"] + ["concurrency"] * (len({result["concurrency"] for result in results}) > 1)
        plot(results, varying, out / "speed.png")
    print(table)


def shown(spread: dict[str, float] | None) -> str:
    """A median with its quartiles, where they differ."""
    if spread is None:
        return "-"
    median, low, high = (f"{spread[key]:.3g}" for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all models; 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="as for rain generate; none: only write the tables again")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures, tables and picture")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=CONTENDERS.split(","))
    parser.add_argument("--n", type=int, default=4, help="prompts asked one at a time")
    parser.add_argument("--concurrency", type=lambda text: [*map(int, text.split(","))], default=[1])
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--bad-rate", type=float, default=0.0, help="below 0: by the models' own judgement")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for model in options.models:
        process = get_context("spawn").Process(target=measure, args=(model, options))
        process.start()
        process.join()
        failed |= process.exitcode != 0
        publish(options.out)
    if not options.models:
        publish(options.out)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
