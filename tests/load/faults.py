"""Random faults for as long as one likes: nothing is lost, doubled or unjudged.

    python tests/load/faults.py --minutes 30 --seed 1

One episode after the other, of three kinds, each drawn from the seed and its number:

- `rain eval` of a model of its own, or of one behind HTTP, with a judge behind HTTP, in a folder that is killed (SIGKILL,
  SIGINT, SIGTERM), whose disk is full, whose files may not grow, and whose upstream fails, until a run is left in peace.
  At no time may an answer be gone that was in the file; at the end each is there once, is the model's, and has its
  labels.
- `rain rate` with two raters, killed and on full disks: what was acknowledged stands in the file as often as it was
  said, and not more often than it was sent.
- `rain serve` before that upstream or with the demo model, killed, and left by clients midway. Each answer is judged, is
  the model's, and equals what was streamed; afterwards nothing runs, and slots and memory are back.

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
from load.flaky import DISK, LEAST, MOST, FlakyUpstream, end, filled, limited, small_disk

from rain_decoding import PlainDecoder, RainDecoder, load_backend
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study
from rain_decoding.evaluation.rating.tasks import answer_tasks

PROMPTS = [f"How do I bake a nut roll at the {place} fair?" for place in ("summer", "spring", "harvest", "winter")]
DECODERS = "plain,rain:balanced"
HURRY = [f"--engine-option={option}" for option in ("attempts=3", "backoff=0.05", "timeout=3")]
"""How often and for how long an upstream is asked."""
FAULTY = 0.15
"""Share of an upstream's replies that are faults."""
ANSWER = 40
"""Tokens of an answer at most."""


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
class Faults:
    """The surroundings of all episodes."""

    report: Report
    upstream: FlakyUpstream
    folder: Path
    expected: dict[str, dict[str, str]]
    """The demo model's answers by decoder and prompt."""

    def run(self, kind: str, number: int, rng: random.Random) -> None:
        disk = self.folder / f"{number}"
        with small_disk(disk) as mounted:
            self.report.happened[f"{kind}, {'small disk' if mounted else 'files that may not grow'}"] += 1
            getattr(self, kind)(f"episode {number} ({kind})", disk, mounted is not None, rng)

    @contextmanager
    def trouble(self, disk: Path, mounted: bool, rng: random.Random) -> Iterator[dict[str, Any]]:
        """Perhaps a full disk or a bad upstream; options for the process that is to meet them."""
        self.upstream.rate = rng.choice([0.0, FAULTY, 0.6])
        full = rng.random() < 0.4
        left = rng.randint(LEAST, MOST)
        self.report.happened["full disk"] += full
        with filled(disk, left) if full and mounted else nullcontext():
            yield {"preexec_fn": limited(left)} if full and not mounted else {}
        self.upstream.rate = 0.0

    def evaluation(self, episode: str, disk: Path, mounted: bool, rng: random.Random) -> None:
        """A run that is stopped and goes on until it is done."""
        behind_http = rng.random() < 0.5
        data = self.folder / "prompts.csv"
        data.write_text("goal,target\n" + "".join(f"{prompt},x\n" for prompt in PROMPTS), encoding="utf-8")
        (self.folder / "kind.toml").write_text(SCRIPT["kind.toml"], encoding="utf-8")
        model = [f"openai:{self.upstream.url}#stub", *HURRY] if behind_http else ["demo"]
        judge = f"llm:{self.upstream.url}#stub"
        out = disk / "run"
        command = ["eval", "advbench", "--out", out, "--data", data, "--families", "direct", "--decoders", DECODERS]
        command += ["--limit", "0", "--max-tokens", ANSWER, "--workers", "1", "--concurrency", "2"]
        command += ["--judge", judge, "--judge", "refusal-prefixes-package", "--model", *model]
        command += ["--criterion", self.folder / "kind.toml"] if behind_http else []
        known: dict[tuple[str, str], str] = {}
        for attempt in range(8):
            peace = attempt == 7
            with nullcontext({}) if peace else self.trouble(disk, mounted, rng) as options:
                process = start(*command, stdout=subprocess.DEVNULL, **options)
                said = read(process)
                how = end(process, 300 if peace else rng.uniform(1, 25), rng)
            self.report.happened[f"eval: {how}"] += 1
            self.report.check(is_told(said(), how), f"{episode}: {how}: {said()[-600:]}")
            found = records(out / "records.jsonl")
            whole = {(record["id"], record["decoder"]): record["answer"] for record in found}
            self.report.check(len(whole) == len(found), f"{episode}: doubled in {len(found)} records")
            self.report.check(known.items() <= whole.items(), f"{episode}: lost of {sorted(known)}: {sorted(whole)}")
            known = whole
            if how == "exit 0" and peace:
                break
        else:
            self.report.check(False, f"{episode}: did not end in peace: {how}: {said()[-600:]}")
            return
        self.report.happened["answers kept"] += len(found)
        self.report.check(len(found) == len(PROMPTS) * 2, f"{episode}: {len(found)} records")
        for record in found:
            label = record["labels"][judge]
            judged = label["harmless"] is True and record["score"] is not None and not label.get("problem")
            self.report.check(judged, f"{episode}: unjudged: {record}")
            plain = record["decoder"] == "plain"
            right = (BAD if plain else GOOD) if behind_http else self.expected[record["decoder"]][record["prompt"]]
            self.report.check(record["answer"] == right, f"{episode}: {record['answer']!r} is not {right!r}")

    def rating(self, episode: str, disk: Path, mounted: bool, rng: random.Random) -> None:
        """Two raters, who send what was not acknowledged again."""
        folder = write(disk / "run", answers())
        tasks = [(task.id, q.name, list(q.values)) for task in answer_tasks(open_study(folder)) for q in task.questions]
        sent: Counter[tuple[str, str, str, str]] = Counter()
        acknowledged: Counter[tuple[str, str, str, str]] = Counter()
        last: dict[tuple[str, str, str], set[str]] = {}
        for attempt in range(6):
            peace = attempt == 5
            with nullcontext({}) if peace else self.trouble(disk, mounted, rng) as options:
                process = start("rate", folder, "--no-open", "--port", "0", stdout=subprocess.DEVNULL, **options)
                said = read(process)
                until(lambda: process.poll() is not None or "http://" in said())
                if address := re.search(r"http://\S+", said()):
                    raters = [
                        threading.Thread(target=rate, args=(address[0], f"rater {n}", tasks, rng.random(), sent, acknowledged, last))
                        for n in range(2)
                    ]
                    for rater in raters:
                        rater.start()
                    how = end(process, rng.uniform(0.5, 4), rng)
                    for rater in raters:
                        rater.join()
                else:
                    how = end(process, 0, rng)
            self.report.happened[f"rate: {how}"] += 1
            self.report.check(is_told(said(), how), f"{episode}: {how}: {said()[-600:]}")
            lines = Counter(
                tuple(record[name] for name in ("rater", "task", "question", "value"))
                for record in records(folder / "ratings.jsonl")
            )
            self.report.check(acknowledged <= lines, f"{episode}: lost: {acknowledged - lines}")
            self.report.check(lines <= sent, f"{episode}: doubled: {lines - sent}")
        standing = RatingStore(folder).values
        self.report.happened["ratings kept"] += lines.total()
        for key, possible in last.items():
            self.report.check(standing.get(key) in possible, f"{episode}: {key}: {standing.get(key)} of {possible}")

    def serving(self, episode: str, disk: Path, mounted: bool, rng: random.Random) -> None:
        """Clients of a server whose upstream fails, or that holds the model itself."""
        del disk, mounted
        behind_http = rng.random() < 0.6
        (self.folder / "kind.toml").write_text(SCRIPT["kind.toml"], encoding="utf-8")
        model = ["demo"]
        if behind_http:
            model = [f"openai:{self.upstream.url}#stub", *HURRY, "--criterion", str(self.folder / "kind.toml")]
        command = ["serve", "--port", "0", "--open", "--served-name", "m", "--max-tokens", str(ANSWER), "--grace-seconds", "3"]
        self.upstream.rate = 0.0
        process = start(*command, "--model", *model, stdout=subprocess.DEVNULL)
        said = read(process)
        until(lambda: process.poll() is not None or '"message": "serving"' in said())
        port = next(entry["port"] for entry in map(json.loads, said().splitlines()) if entry["message"] == "serving")
        url = f"http://127.0.0.1:{port}"
        before = resident(process)
        self.upstream.rate = rng.choice([0.0, FAULTY, 0.5]) if behind_http else 0.0
        over = threading.Event()
        clients = [
            threading.Thread(target=self.client, args=(episode, url, random.Random(rng.random()), behind_http, over))
            for _ in range(4)
        ]
        for client in clients:
            client.start()
        time.sleep(rng.uniform(5, 40))
        killed = rng.random() < 0.5
        if killed:
            how = end(process, 0, rng)
        over.set()
        for client in clients:
            client.join()
        self.upstream.rate = 0.0
        if not killed:
            self.report.check(idle(url), f"{episode}: something still runs: {said()[-600:]}")
            text = httpx2.get(f"{url}/metrics", timeout=30).text
            slots = float(re.search(r"^rain_kv_slots (\S+)", text, re.M)[1])
            after = resident(process)
            self.report.check(slots <= 8192 and after < before + 200, f"{episode}: {slots} slots, {before} -> {after} MiB")
            ready = until(lambda: httpx2.get(f"{url}/readyz", timeout=30).status_code == 200, check=False)
            self.report.check(ready, f"{episode}: not ready again")
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            how = f"exit {process.returncode}"
        self.report.happened[f"serve: {how}"] += 1
        bare = [line for line in said().splitlines() if not line.startswith("{")]
        self.report.check(not bare, f"{episode}: {how}: {bare[:20]}")

    def client(self, episode: str, url: str, rng: random.Random, behind_http: bool, over: threading.Event) -> None:
        """Asks, streams, and leaves, until it is over."""
        while not over.is_set():
            prompt, streamed, leaves = rng.choice(PROMPTS), rng.random() < 0.6, rng.random() < 0.3
            body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": streamed, "seed": 0}
            try:
                status, text, rain = ask(url, body, leaves=leaves)
            except (httpx2.TransportError, OSError):
                self.report.happened["serve: connection lost"] += 1
                over.wait(0.5)
                continue
            left = leaves and streamed and status == "200"
            self.report.happened[f"serve: {'left' if left else status}"] += 1
            expected = GOOD if behind_http else self.expected["rain:balanced"][prompt]
            if left:
                self.report.check(expected.startswith(text.strip()), f"{episode}: {text!r} begins not {expected!r}")
            elif status == "200":
                held_back = rain["finish_reason"] == "unjudged"
                judged = rain["score"] is not None or (held_back and not text.strip())
                self.report.check(judged, f"{episode}: unjudged: {text!r} {rain}")
                right = text.strip() == expected or held_back or rain["flagged"]
                self.report.check(right, f"{episode}: {text!r} is not {expected!r}: {rain}")
            elif status not in ("429", "502", "503", "504") or not behind_http:
                self.report.check(status == "503", f"{episode}: {status} {text}")
            over.wait(rng.uniform(0.1, 1.0))


def ask(url: str, body: dict[str, Any], *, leaves: bool) -> tuple[str, str, dict[str, Any]]:
    """Status, text and `rain` of an answer; the status of a stream is that of its error, if it ends in one."""
    with httpx2.Client(timeout=60) as http:
        if not body["stream"]:
            response = http.post(f"{url}/v1/chat/completions", json=body)
            data = response.json()
            if response.status_code != 200:
                return str(response.status_code), data["error"]["message"], {}
            return "200", data["choices"][0]["message"]["content"] or "", data["rain"]
        text, rain = "", {}
        with http.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return str(response.status_code), response.read().decode(), {}
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    return "502", chunk["error"]["message"], {}
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                rain = chunk.get("rain", rain)
                if leaves and text:
                    break
        if not leaves and "finish_reason" not in rain:
            raise httpx2.ReadError("the stream was cut off")
        return "200", text, rain


def rate(
    address: str,
    name: str,
    tasks: list[tuple[str, str, list[str]]],
    seed: float,
    sent: Counter[tuple[str, str, str, str]],
    acknowledged: Counter[tuple[str, str, str, str]],
    last: dict[tuple[str, str, str], set[str]],
) -> None:
    """Rate until the server is gone. `last` is what may stand: what was acknowledged last, and what was sent since."""
    rng = random.Random(seed)
    with httpx2.Client(base_url=address, timeout=30) as http:
        while True:
            task, question, values = rng.choice(tasks)
            value, key = rng.choice(values), (name, task, question)
            sent[*key, value] += 1
            last.setdefault(key, set()).add(value)
            body = {"rater": name, "task": task, "question": question, "value": value}
            try:
                response = http.post("/api/ratings", json=body)
            except (httpx2.TransportError, OSError):
                return
            if response.status_code == 204:
                acknowledged[*key, value] += 1
                last[key] = {value}
            elif response.status_code == 507:
                sent[*key, value] -= 1
            else:
                raise AssertionError(response.text)
            time.sleep(0.01)


def read(process: subprocess.Popen[str]) -> Callable[[], str]:
    """What the process has said on standard error so far."""
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")), daemon=True).start()
    return lambda: "".join(lines)


def is_told(said: str, how: str) -> bool:
    """Whether no bare traceback is among it; Python's own, of Ctrl-C before the command was imported, is none of ours."""
    return "Traceback" not in said or (how == "SIGINT" and "in main" not in said)


def records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def until(condition: Callable[[], bool], *, check: bool = True) -> bool:
    """Wait for up to a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            assert not check, "it did not happen"
            return False
        time.sleep(0.05)
    return True


def idle(url: str) -> bool:
    """Whether nothing runs or waits any more, within a minute."""

    def nothing() -> bool:
        text = httpx2.get(f"{url}/metrics", timeout=30).text
        return all(float(value) == 0 for value in re.findall(r"^rain_(?:running|queue_length) (\S+)", text, re.M))

    return until(nothing, check=False)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["evaluation", "rating", "serving"], help="this kind of episode alone")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    report, upstream = Report(), FlakyUpstream(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(report, upstream, Path(folder), alone())
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 60 * arguments.minutes:
            number += 1
            rng = random.Random(f"{arguments.seed}, {number}")
            faults.run(arguments.only or rng.choice(["evaluation", "rating", "serving"]), number, rng)
    upstream.close()
    json.dump(
        {
            "seed": arguments.seed,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "episodes": number,
            "happened": dict(sorted(report.happened.items())),
            "upstream": dict(sorted(upstream.happened.items())),
            "violations": report.violations,
        },
        sys.stdout,
        indent=2,
    )
    return bool(report.violations)


if __name__ == "__main__":
    sys.exit(main())
