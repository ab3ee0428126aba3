"""A run of `rain eval` as it is rated: its answers, and what is asked about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.evaluation.contenders import DECODERS
from rain_decoding.evaluation.runner import COMPARED, COMPARISONS, KEYS, RECORDS, read_run
from rain_decoding.evaluation.suites import Metric, load_suite
from rain_decoding.measurement.records import Record, RecordFile

SHOWN = {"prompt": str, "subject": str, "format": str}
"""What a record must have beside `KEYS` to be shown and reported."""


@dataclass(frozen=True)
class Study:
    """Records in the order of the run, each family's metrics, and the decoder that others are compared with.

    `comparisons` are what judges said of two answers, as `rain eval --pairwise` leaves it.
    """

    records: Sequence[Record]
    metrics: Mapping[str, tuple[Metric, ...]]
    reference: str
    comparisons: Sequence[Record] = ()

    @property
    def decoders(self) -> list[str]:
        return list(dict.fromkeys(record["decoder"] for record in self.records))


def open_study(
    folder: Path,
    *,
    decoders: Sequence[str] = (),
    families: Sequence[str] = (),
    questions: Sequence[str] = (),
    limit: int = 0,
) -> Study:
    """Read a run's folder; without a choice, all that it has. Of each family the first `limit` prompts, 0: all.

    Which prompts are the first is the same for all raters. Raises `InputError` for a folder without a run, a name
    that the run does not have, and where nothing is left.
    """
    spec = read_run(folder)["spec"]
    records = RecordFile(folder / RECORDS, KEYS | SHOWN).read()
    try:
        kinds = {name: decoder["kind"] for name, decoder in spec["decoders"].items()}
        metrics = _metrics(spec)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder}: the run's description has no {error}", hint="use the --out folder of a rain eval"
        ) from error
    asked = {metric.question for family in metrics.values() for metric in family}
    _check("decoder", decoders, kinds)
    _check("family", families, metrics)
    _check("question", questions, asked)
    metrics = {
        family: chosen
        for family, own in metrics.items()
        if (not families or family in families)
        and (chosen := tuple(m for m in own if not questions or m.question in questions))
    }
    kept = _first(limit, [r for r in records if r["family"] in metrics])
    kept = [r for r in kept if not decoders or r["decoder"] in decoders]
    if not kept:
        raise InputError(
            f"{folder} contains no answer to rate",
            hint="wait for rain eval to finish, or select other answers",
        )
    present = dict.fromkeys(r["decoder"] for r in kept)
    ordered = [name for name in kinds if name in present]
    reference = next((name for name in ordered if not DECODERS[kinds[name]].judged), next(iter(present)))
    return Study(kept, metrics, reference, RecordFile(folder / COMPARISONS, COMPARED).read())


def _metrics(spec: dict[str, Any]) -> dict[str, tuple[Metric, ...]]:
    used = spec["families"]
    return {
        family.name: family.metrics for family in load_suite(spec["suite"]).families if family.name in used
    }


def _check(kind: str, names: Sequence[str], known: Any) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"the run has no {kind} {name!r}", hint=f"use one of {', '.join(sorted(known))}")


def _first(limit: int, records: list[Record]) -> list[Record]:
    """The records of each family's first prompts, by their ids, which are hashes."""
    ids: dict[str, set[str]] = {}
    for record in records:
        ids.setdefault(record["family"], set()).add(record["id"])
    chosen = {name for own in ids.values() for name in sorted(own)[: limit or None]}
    return [record for record in records if record["id"] in chosen]
