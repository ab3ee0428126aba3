"""Runs an attack in its folder: keeps what is found and how far it is, and goes on where an earlier run stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

from rain_decoding.attacks.plan import AttackPlan, Unit
from rain_decoding.attacks.progress import Progress
from rain_decoding.evaluation.runner import open_folder, write_json
from rain_decoding.files import read_text
from rain_decoding.measurement.records import Record, RecordFile

RECORDS, STATE, RELEASED = "attacks.jsonl", "state.json", "attacks.json"
KEYS = {"goal": str, "controls": object, "method": str}
"""What every record has."""
COLUMNS = ("goal", "controls", "target", "method", "seed", "budget", "model", "sha256")
"""What is released of a record."""
EVERY = 1.0
"""Seconds between two writes of the state: what a crash loses at most, beside the step it falls into."""


class AttackRun:
    """An attack and its folder, which is its own until it is left or the process ends.

    Raises `InputError` where the folder holds a run of something else, naming the difference, or is another process's.
    """

    def __init__(self, plan: AttackPlan, folder: Path, arguments: list[str]):
        self.plan, self.folder = plan, folder
        self.lock = open_folder(folder, plan.describe(), arguments)
        self.file = RecordFile(folder / RECORDS, KEYS)
        self.records = self.file.read()

    def __enter__(self) -> AttackRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def collect(self, told: Callable[[Record], Any]) -> None:
        """Attack what is missing; `told` hears of every behaviour once its record is written."""
        done = {record["goal"] for record in self.records}
        for unit in self.plan.units():
            missing = [behaviour for behaviour in unit.behaviours if behaviour.goal not in done]
            if not missing:
                continue
            progress = self._run(unit)
            for behaviour in missing:
                record = self._record(unit, progress, behaviour.goal, behaviour.target)
                self.file.append(record)
                self.records.append(record)
                told(record)
        self._release()

    def _run(self, unit: Unit) -> Progress:
        """Step after step until all restarts are done."""
        progress, written = self._state(unit) or unit.attack.start(None), monotonic()
        while True:
            spent = progress.tokens - progress.spent
            if unit.attack.ended(progress) or (unit.budget and spent >= unit.budget):
                if progress.restart + 1 >= self.plan.restarts:
                    break
                progress = unit.attack.start(progress)
            progress = unit.attack.step(progress)
            if monotonic() - written > EVERY:
                self._keep(unit, progress)
                written = monotonic()
        self._keep(unit, progress)
        return progress

    def _keep(self, unit: Unit, progress: Progress) -> None:
        write_json(self.folder / STATE, {"unit": unit.name, "progress": progress.as_json()})

    def _state(self, unit: Unit) -> Progress | None:
        """Where an earlier run was with this unit, if it had begun it."""
        path = self.folder / STATE
        if not path.exists():
            return None
        state = json.loads(read_text(path))
        return Progress.from_json(state["progress"]) if state["unit"] == unit.name else None

    def _record(self, unit: Unit, progress: Progress, goal: str, target: str) -> Record:
        best = progress.best
        return {
            "goal": goal,
            "controls": best.controls if best else progress.controls,
            "target": target,
            "method": self.plan.method,
            "seed": self.plan.seed,
            "restarts": progress.restart + 1,
            "steps": progress.step,
            "loss": best.loss if best else None,
            "hit": bool(best and best.hit),
            "tokens": progress.tokens // len(unit.behaviours),
            "passes": progress.passes // len(unit.behaviours),
            "queries": progress.queries,
            "shared_by": len(unit.behaviours),
            "curve": [
                asdict(replace(found, tokens=found.tokens // len(unit.behaviours)))
                for found in progress.curve
            ],
        }

    def _release(self) -> None:
        """The suffixes in the form that the released code of RAIN, and the suites, read."""
        model = self.plan.describe()["model"]
        about = {"budget": self.plan.budget, "model": model["name"], "sha256": model["sha256"]}
        write_released(self.folder / RELEASED, ({**record, **about} for record in self.records))


def write_released(path: Path, rows: Iterable[Record]) -> None:
    """One object per line."""
    lines = (json.dumps({key: row[key] for key in COLUMNS}, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
