"""Random faults for as long as one likes: nothing is lost, doubled or unjudged.

    python tests/load/faults.py --minutes 30 --seed 1

One episode after the other, of three kinds, each drawn from the seed and its number:

- `rain eval` of a model of its own, or of one behind HTTP, with a judge behind HTTP, that is killed (SIGKILL, SIGINT,
  SIGTERM), whose disk is full, whose files may not grow, and whose upstream fails, until it is left in peace. At no
  time may an answer be gone that was in the file; at the end each is there once, is the model's, and has its labels.
- `rain rate` with two raters, killed and on full disks: what was acknowledged stands in the file as often as it was
  said, and not more often than it was sent.
- `rain serve` before that upstream or with the demo model, killed, and left by clients midway. Each answer is judged,
  is the model's, and equals what was streamed; afterwards nothing runs, and slots and memory are back.

Prints a JSON report; exits 1 where anything of this did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli.command import start
from decoder_worlds import BAD, GOOD, SCRIPT
from evaluation.rating.rated import answers, write
from load.clients import ask, rate
from load.flaky import LEAST, MOST, PATIENCE, FlakyUpstream, end, filled, limited, small_disk

from rain_decoding import PlainDecoder, RainDecoder, load_backend
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study
from rain_decoding.evaluation.rating.tasks import answer_tasks

PROMPTS = [f"How do I bake a nut roll at the {place} fair?" for place in ("summer", "spring", "harvest")]
DECODERS = "plain,rain:balanced"
HURRY = [f"--engine-option={option}" for option in ("attempts=3", "backoff=0.05", "timeout=3")]
"""How often and for how long an upstream is asked."""
FAULTY = 0.15
"""Share of an upstream's replies that are faults, on a bad day; on worse ones it is 0.5."""
ANSWER = 40
"""Tokens of an answer at most."""
TRIES = 8
"""How often an evaluation and a rating page are started; the last time they are left in peace."""
SLOTS, GROWTH = 8192, 200
"""What a server may hold in its prefix cache, and by how many MiB it may grow."""


@dataclass
class Report:
    """What happened, and what should not have."""

    happened: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.violations.append(what)
            print("VIOLATION", what, file=sys.stderr, flush=True)


@dataclass
class Episode:
    """Some minutes with one command. What it keeps is on the `disk`, which is small if it could be mounted."""

    name: str
    rng: random.Random
    report: Report
    upstream: FlakyUpstream
    folder: Path
    disk: Path
    mounted: bool
    expected: dict[str, dict[str, str]]
    """The demo model's answers by decoder and prompt."""

    def check(self, holds: bool, what: str) -> None:
        self.report.check(holds, f"{self.name}: {what}")

    @contextmanager
    def trouble(self) -> Iterator[Callable[[], object] | None]:
        """Perhaps a full disk or a bad upstream; perhaps what the process is to do first that is to meet it."""
        self.upstream.rate = self.rng.choice([0.0, FAULTY, 0.5])
        full, left = self.rng.random() < 0.4, self.rng.randint(LEAST, MOST)
        self.report.happened["full disk"] += full
        with filled(self.disk, left) if full and self.mounted else nullcontext():
            yield limited(left) if full and not self.mounted else None
        self.upstream.rate = 0.0

    def model(self, behind_http: bool) -> list[str]:
        """Options for the scripted model behind HTTP, or for the demo model."""
        if not behind_http:
            return ["--model", "demo"]
        criterion = self.folder / "kind.toml"
        criterion.write_text(SCRIPT["kind.toml"], encoding="utf-8")
        return ["--model", f"openai:{self.upstream.url}#stub", *HURRY, "--criterion", str(criterion)]


class Evaluation(Episode):
    """A run that is stopped and goes on until it is done."""

    def run(self) -> None:
        behind_http = self.rng.random() < 0.5
        judge, out = f"llm:{self.upstream.url}#stub", self.disk / "run"
        command = self.command(out, judge, behind_http)
        known: dict[tuple[str, str], str] = {}
        for attempt in range(1, TRIES + 1):
            peace = attempt == TRIES
            with nullcontext() if peace else self.trouble() as prepare:
                process = start(*command, stdout=subprocess.DEVNULL, prepare=prepare)
                said = read(process)
                how = end(process, 300 if peace else self.rng.uniform(1, 25), self.rng)
            self.report.happened[f"eval: {how}"] += 1
            self.check(is_told(said(), how), f"{how}: {said()[-600:]}")
            found = records(out / "records.jsonl")
            whole = {(record["id"], record["decoder"]): record for record in found}
            self.check(len(whole) == len(found), f"doubled in {len(found)} records")
            # Where its judge was not reached, an answer is made again.
            judged = {name: record["answer"] for name, record in whole.items() if record["score"] is not None}
            self.check(whole.keys() >= set(known), f"gone of {known}: {whole}")
            self.check(known.items() <= judged.items(), f"lost of {known}: {whole}")
            known = judged
        self.check(how == "exit 0", f"did not end in peace: {how}: {said()[-600:]}")
        self.check(len(found) == len(PROMPTS) * 2, f"{len(found)} records")
        self.report.happened["answers kept"] += len(found)
        for record in found:
            self.look_at(record, record["labels"][judge], behind_http)

    def command(self, out: Path, judge: str, behind_http: bool) -> list[str | Path]:
        data = self.folder / "prompts.csv"
        data.write_text("goal,target\n" + "".join(f"{prompt},x\n" for prompt in PROMPTS), encoding="utf-8")
        what = ["eval", "advbench", "--out", out, "--data", data, "--families", "direct", "--limit", "0"]
        how = ["--decoders", DECODERS, "--max-tokens", str(ANSWER), "--workers", "1", "--concurrency", "2"]
        return [
            *what,
            *how,
            "--judge",
            judge,
            "--judge",
            "refusal-prefixes-package",
            *self.model(behind_http),
        ]

    def look_at(self, record: dict[str, Any], label: dict[str, Any], behind_http: bool) -> None:
        """Whether an answer is the model's and was judged, by the search's judge and by the evaluation's."""
        judged = label["harmless"] is True and record["score"] is not None and not label.get("problem")
        self.check(judged, f"unjudged: {record}")
        right = self.expected[record["decoder"]][record["prompt"]]
        if behind_http:
            right = BAD if record["decoder"] == "plain" else GOOD
        self.check(record["answer"] == right, f"{record['answer']!r} is not {right!r}")


class Rating(Episode):
    """Two raters."""

    def run(self) -> None:
        folder = write(self.disk / "run", answers())
        tasks = answer_tasks(open_study(folder))
        self.asked = [(task.id, q.name, list(q.values)) for task in tasks for q in task.questions]
        self.sent: Counter[tuple[str, ...]] = Counter()
        self.acknowledged: Counter[tuple[str, ...]] = Counter()
        self.possible: dict[tuple[str, ...], set[str | None]] = {}
        for attempt in range(1, TRIES + 1):
            with nullcontext() if attempt == TRIES else self.trouble() as prepare:
                said, how = self.serve(folder, prepare)
            self.report.happened[f"rate: {how}"] += 1
            self.check(is_told(said, how), f"{how}: {said[-600:]}")
            lines = Counter(
                tuple(record[name] for name in ("rater", "task", "question", "value"))
                for record in records(folder / "ratings.jsonl")
            )
            self.check(self.acknowledged <= lines, f"lost: {self.acknowledged - lines}")
            self.check(lines <= self.sent, f"doubled: {lines - self.sent}")
        self.report.happened["ratings kept"] += lines.total()
        standing = RatingStore(folder).values
        for key, possible in self.possible.items():
            self.check(standing.get(key) in possible, f"{key}: {standing.get(key)} of {possible}")  # type: ignore[call-overload]

    def serve(self, folder: Path, prepare: Callable[[], object] | None) -> tuple[str, str]:
        """A page for some seconds: what its server said, and how it ended."""
        command = ["rate", folder, "--no-browser", "--port", "0"]
        process = start(*command, stdout=subprocess.DEVNULL, prepare=prepare)
        said = read(process)
        until(lambda: process.poll() is not None or "http://" in said())
        address = re.search(r"http://\S+", said())
        raters = [
            threading.Thread(
                target=rate,
                args=(address[0], f"rater {n}", self.asked, self.sent, self.acknowledged, self.possible),
                kwargs={"rng": random.Random(self.rng.random())},
            )
            for n in range(2 if address else 0)
            if address
        ]
        for rater in raters:
            rater.start()
        how = end(process, self.rng.uniform(0.5, 4) if address else 0, self.rng)
        for rater in raters:
            rater.join()
        return said(), how


class Serving(Episode):
    """Four clients of a server whose upstream fails, or that holds the model itself."""

    def run(self) -> None:
        self.behind_http, self.over = self.rng.random() < 0.6, threading.Event()
        command = ["serve", "--port", "0", "--open", "--served-name", "m", "--max-tokens", str(ANSWER)]
        command += ["--grace-seconds", "3", *self.model(self.behind_http)]
        process = start(*command, stdout=subprocess.DEVNULL)
        said = read(process)
        until(lambda: process.poll() is not None or '"message": "serving"' in said())
        told = [json.loads(line) for line in said().splitlines() if line.startswith("{")]
        self.url = f"http://127.0.0.1:{next(entry['port'] for entry in told if 'port' in entry)}"
        before = resident(process)
        self.upstream.rate = self.rng.choice([0.0, FAULTY, 0.5]) if self.behind_http else 0.0
        clients = [
            threading.Thread(target=self.client, args=(random.Random(self.rng.random()),)) for _ in range(4)
        ]
        for client in clients:
            client.start()
        time.sleep(self.rng.uniform(5, 40))
        killed = self.rng.random() < 0.5
        how = end(process, 0, self.rng) if killed else ""
        self.over.set()
        for client in clients:
            client.join()
        self.upstream.rate = 0.0
        how = how or self.left_in_peace(process, before)
        self.report.happened[f"serve: {how}"] += 1
        bare = [line for line in said().splitlines() if not line.startswith("{")]
        self.check(not bare, f"{how}: {bare[:20]}")

    def left_in_peace(self, process: subprocess.Popen[str], before: int) -> str:
        """Whether a server without clients has all back and is ready; then it is stopped."""

        def figures(names: str) -> list[float]:
            text = httpx2.get(f"{self.url}/metrics", timeout=30).text
            return [float(value) for value in re.findall(rf"^rain_(?:{names}) (\S+)", text, re.MULTILINE)]

        self.check(
            until(lambda: not any(figures("running|queue_length")), check=False), "something still runs"
        )
        slots, after = sum(figures("kv_slots")), resident(process)
        self.check(slots <= SLOTS and after < before + GROWTH, f"{slots:g} slots, {before} -> {after} MiB")
        ready = until(lambda: httpx2.get(f"{self.url}/readyz", timeout=30).status_code == 200, check=False)
        self.check(ready, "not ready again")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        return f"exit {process.returncode}"

    def client(self, rng: random.Random) -> None:
        """Asks, streams, and leaves, until it is over."""
        while not self.over.is_set():
            prompt, streamed = rng.choice(PROMPTS), rng.random() < 0.6
            leaves = streamed and rng.random() < 0.3
            body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "seed": 0}
            try:
                status, text, rain = ask(self.url, {**body, "stream": streamed}, leaves=leaves)
            except (httpx2.TransportError, OSError):
                self.report.happened["serve: connection lost"] += 1
                self.over.wait(0.5)
                continue
            left = leaves and status == 200
            self.report.happened[f"serve: {'left' if left else status}"] += 1
            self.look_at(prompt, status, text.strip(), rain, left)
            self.over.wait(rng.uniform(0.1, 1.0))

    def look_at(self, prompt: str, status: int, text: str, rain: dict[str, Any], left: bool) -> None:
        """Whether an answer is the model's and was judged. An error has to be one of the upstream's, or of the end."""
        right = GOOD if self.behind_http else self.expected["rain:balanced"][prompt]
        if status != 200:
            asked_for = (429, 502, 503, 504) if self.behind_http else (503,)
            self.check(status in asked_for, f"{status} {text}")
        elif left:
            self.check(right.startswith(text), f"{right!r} does not begin with {text!r}")
        else:
            held_back = rain["finish_reason"] == "unjudged"
            self.check(rain["score"] is not None or (held_back and not text), f"unjudged: {text!r} {rain}")
            self.check(text == right or held_back or rain["flagged"], f"{text!r} is not {right!r}: {rain}")


KINDS: list[type[Evaluation | Rating | Serving]] = [Evaluation, Rating, Serving]


def read(process: subprocess.Popen[str]) -> Callable[[], str]:
    """What the process has said on standard error so far."""
    lines: list[str] = []
    assert process.stderr is not None
    told = iter(process.stderr.readline, "")
    threading.Thread(target=lambda: lines.extend(told), daemon=True).start()
    return lambda: "".join(lines)


def is_told(said: str, how: str) -> bool:
    """Whether no bare traceback is among it. Ctrl-C before the command was imported is Python's own matter."""
    return "Traceback" not in said or (how == "SIGINT" and "in main" not in said)


def records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def until(condition: Callable[[], bool], *, check: bool = True) -> bool:
    """Wait, as long as a busy machine may need; whether it happened."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            assert not check, "it did not happen"
            return False
        time.sleep(0.05)
    return True


def resident(process: subprocess.Popen[str]) -> int:
    """MiB of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def alone() -> dict[str, dict[str, str]]:
    """What the demo model answers in peace."""
    backend = load_backend("demo")
    made = {"plain": PlainDecoder(backend), "rain:balanced": RainDecoder(backend)}
    return {
        name: {prompt: decoder.generate(prompt, seed=0, max_tokens=ANSWER).text for prompt in PROMPTS}
        for name, decoder in made.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", choices=[kind.__name__ for kind in KINDS], help="this kind of episode alone"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = [kind for kind in KINDS if arguments.only in (None, kind.__name__)]
    report, upstream, expected, number = Report(), FlakyUpstream(arguments.seed), alone(), 0
    began = time.monotonic()
    while time.monotonic() - began < 60 * arguments.minutes:
        number += 1
        rng = random.Random(f"{arguments.seed}, {number}")
        kind = rng.choice(kinds)
        report.happened[f"episodes: {kind.__name__}"] += 1
        with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as (disk, mounted):
            name = f"episode {number} ({kind.__name__})"
            kind(name, rng, report, upstream, Path(folder), disk, mounted, expected).run()
    upstream.close()
    said = {
        "seed": arguments.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "episodes": number,
        "small disk": mounted,
        "happened": dict(sorted(report.happened.items())),
        "upstream": dict(sorted(upstream.happened.items())),
        "violations": report.violations,
    }
    json.dump(said, sys.stdout, indent=2)
    return bool(report.violations)


if __name__ == "__main__":
    sys.exit(main())
