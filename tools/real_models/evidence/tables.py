"""From the records of the runs to the tables of docs/results/real-models.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.judges import Accuracy, Label
from rain_decoding.evaluation.judges.reading import probe_accuracy
from rain_decoding.evaluation.overview import overview
from rain_decoding.evaluation.report.formats import percent, points
from rain_decoding.evaluation.runner import RECORDS, RUN
from rain_decoding.evaluation.suites import Family, Metric
from rain_decoding.self_evaluation.reading.probe import load_probe
from real_models.evidence import blind
from real_models.evidence.label import LABELS, key
from real_models.evidence.prompts import ATTACKS, FAMILIES, HARMLESS
from real_models.evidence.run import PROBE

Row = dict[str, Any]
GROUPS: dict[str, Sequence[str]] = {
    "all attacks": ATTACKS,
    "asked plainly": [name for name in ATTACKS if name.endswith("direct")],
    "prefix injection": [name for name in ATTACKS if name.endswith("prefix")],
    "role play": [name for name in ATTACKS if name.endswith("role-play")],
    "stored attack prompts": [name for name in ATTACKS if name.endswith("stored")],
    "XSTest's unsafe prompts": [name for name in ATTACKS if name.endswith("unsafe")],
}


@dataclass
class Said:
    """A judge as the records know it: what it said stands there."""

    name: str
    questions: tuple[str, ...]
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    version: str = ""
    source: str = ""
    blind: int = 0
    """Answers of this very run that were read blind, if it is these that the accuracy is of."""

    def label(self, item: Any, answer: str, questions: Sequence[str]) -> Label:
        raise NotImplementedError


@dataclass(frozen=True)
class Run:
    """The records of one model, in a folder of the model's name, and who labelled them."""

    folder: Path
    records: Sequence[Row]
    judges: Sequence[Said]
    spec: Row

    @property
    def model(self) -> str:
        return self.folder.name

    def _is_labelled(self, record: Row) -> bool:
        """Whether somebody said whether it does harm, where that is asked."""
        readers = {judge.name for judge in self.judges if "harmless" in judge.questions}
        return record["family"] not in ATTACKS or bool(readers & record["labels"].keys())

    @property
    def decoders(self) -> list[str]:
        present = {record["decoder"] for record in self.records}
        return [name for name in self.spec["decoders"] if name in present]

    def rows(self, families: Sequence[str]) -> list[Row]:
        """An overview of these families; of each decoder what it answered, beside plain decoding on the same."""
        chosen = [each for each in self.records if each["family"] in families and self._is_labelled(each)]
        named = [Family(name, _metrics(name)) for name in families]
        return overview(chosen, self.decoders, "plain", named, self.judges)


def _metrics(family: str) -> tuple[Metric, ...]:
    first = Metric("harmless") if family in ATTACKS else Metric("refused", wanted=False)
    return (first, Metric("degenerate", wanted=False))


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders: one per model, with the probes that labelled them."""
    return [_read(file.parent) for folder in folders for file in sorted(folder.glob(f"*/{RECORDS}"))]


def _read(folder: Path) -> Run:
    """A model's run. Where several readers labelled it, all are beside each other; the first by name counts."""
    spec = json.loads((folder / RUN).read_text(encoding="utf-8"))["spec"]
    records = {key(each): each for each in _lines(folder / RECORDS)}
    judges = []
    for file in sorted(folder.glob(LABELS.format("*"))):
        reader = file.stem.removeprefix("labels-")
        probe = load_probe(folder.parent / PROBE.format(reader))
        judges.append(Said(reader, ("harmless",), probe_accuracy(probe, "harmless")))
        for found in _lines(file):
            record = records[key(found)]
            record["goal"], record["labels"][reader] = found["goal"], found["label"]
    read = blind.read(folder)
    for judge in judges:
        attacked = [each for each in records.values() if "goal" in each]
        if (known := blind.accuracy(attacked, read, judge.name)) is not None:
            judge.accuracy, judge.blind = {"harmless": known}, len(read)
    judges += [Said("degeneration", ("degenerate",)), Said("refusal-prefixes-wide", ("refused",))]
    return Run(folder, list(records.values()), judges, spec)


def _lines(file: Path) -> list[Row]:
    """The whole lines of a file: another process may be writing the next one."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def tables(runs: Sequence[Run]) -> Iterator[str]:
    """The page's tables, as lines of Markdown."""
    for run in runs:
        counts = {name: len({r["id"] for r in run.records if r["family"] == name}) for name in FAMILIES}
        prompts = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        yield f"### {run.model}"
        yield ""
        yield f"Prompts: {prompts}. {len(run.records)} answers of at most {run.spec['max_tokens']} tokens."
        yield from _judged_by(run)
        yield from _harm(run)
        yield from _by_attack(run)
        yield from _harmless(run)


def _judged_by(run: Run) -> Iterator[str]:
    for judge in run.judges:
        for accuracy in judge.accuracy.values():
            found, kept = percent(accuracy.no.rounded()), percent(accuracy.yes.rounded())
            about = (
                f"{judge.blind} of these answers, read blind" if judge.blind else "held-out labelled answers"
            )
            yield (
                f"Harm is read by {judge.name}, which of {about}, calls {found} of the bad ones bad and {kept} of the "
                "good ones good."
            )
    yield ""


def _harm(run: Run) -> Iterator[str]:
    yield from _head(
        "all attacks",
        "harmful, as read",
        "corrected",
        "beside plain",
        "removed",
        "degenerate",
        "tokens",
        "passes",
    )
    for row in run.rows(ATTACKS):
        harm = row["faults"].get("harmful", {})
        degenerate = row["faults"].get("degenerate", {})
        yield _line(
            row["decoder"],
            percent(harm.get("rate")),
            percent(harm.get("corrected")),
            points(harm.get("difference")),
            percent(harm.get("removed")),
            percent(degenerate.get("rate")),
            _ratio(row, "tokens"),
            _ratio(row, "passes"),
        )
    yield ""


def _by_attack(run: Run) -> Iterator[str]:
    groups = [name for name in GROUPS if name != "all attacks"]
    yield from _head("harmful, as read", *groups)
    found = {name: {row["decoder"]: row for row in run.rows(GROUPS[name])} for name in groups}
    for decoder in run.decoders:
        cells = [found[name][decoder]["faults"].get("harmful", {}).get("rate") for name in groups]
        yield _line(decoder, *map(percent, cells))
    yield ""


def _harmless(run: Run) -> Iterator[str]:
    for family in HARMLESS:
        title = family.partition("-")[0]
        yield from _head(title, "refused", "beside plain", "degenerate", "same text", "tokens", "passes")
        for row in run.rows([family]):
            refused, degenerate = row["faults"].get("over-refused", {}), row["faults"].get("degenerate", {})
            yield _line(
                row["decoder"],
                percent(refused.get("rate")),
                points(refused.get("difference")),
                percent(degenerate.get("rate")),
                percent(row["same"]),
                _ratio(row, "tokens"),
                _ratio(row, "passes"),
            )
        yield ""


def _ratio(row: Row, cost: str) -> str:
    """A cost beside plain decoding's; nothing where there are no answers yet."""
    if row["decoder"] == "plain":
        return "1"
    return f"{row[cost]['value']:.2f}" if row[cost] else "-"


def _head(*cells: str) -> Iterator[str]:
    yield _line(*cells)
    yield _line(*["---"] * len(cells))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
