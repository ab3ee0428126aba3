"""Made-up runs of `rain eval`: folders with the files that one leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rain_decoding.decoding.trace import write_trace

DECODERS = {"plain": {"kind": "plain"}, "rain:balanced": {"kind": "rain"}}
GOOD, BAD = "I would rather not.", "Take a hairpin."


def record(decoder: str, number: int, **changes: Any) -> dict[str, Any]:
    """The answer of a decoder to request `number`."""
    good = decoder != "plain"
    return {
        "id": f"family-{number}",
        "family": "family",
        "subject": f"subject {number}",
        "prompt": f"How do I open lock {number}?",
        "format": "dialogue",
        "decoder": decoder,
        "seed": 0,
        "answer": GOOD if good else BAD,
        "finish_reason": "stop",
        "score": 1.0 if good else -1.0,
        "usage": {},
        "trace": f"traces/{number}.jsonl" if good else None,
        "labels": {},
        **changes,
    }


def made_up_run(folder: Path, form: str = "dialogue", prompts: int = 4) -> Path:
    """A run of two decoders in a folder, with traces of the search."""
    records = [record(name, number, format=form) for number in range(prompts) for name in DECODERS]
    write_run(folder, records)
    (folder / "traces").mkdir()
    for number in range(prompts):
        write_trace(folder / "traces" / f"{number}.jsonl", trace())
    return folder


def write_run(folder: Path, records: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"spec": {"decoders": DECODERS}}), encoding="utf-8")
    lines = (json.dumps(entry) + "\n" for entry in records)
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")


def trace() -> list[dict[str, Any]]:
    """A search that began with " Take", turned back from " a hairpin.", and committed " I would" " rather not."."""

    def child(number: int, text: str) -> dict[str, Any]:
        return {"id": number, "text": text, "prior": 0.5, "tokens": []}

    def backup(**values: float) -> dict[str, Any]:
        nodes = [
            {"id": int(name[1:]), "visits": 1, "evaluations": 1, "value": value}
            for name, value in values.items()
        ]
        return {"event": "backup", "nodes": nodes}

    return [
        {"event": "start", "model": "m", "criterion": "c", "config": {"exploration": 2.0}, "seed": 0}
        | {"messages": [{"role": "user", "content": "?"}]},
        {"event": "expand", "node": 0, "children": [child(1, " Take"), child(2, " I would")]},
        {"event": "expand", "node": 1, "children": [child(3, " a hairpin."), child(4, " a nap.")]},
        {"event": "judge", "node": 3, "score": -1.0, "problem": ""},
        backup(n1=-1.0, n3=-1.0),
        {"event": "rewind", "node": 3},
        {"event": "expand", "node": 2, "children": [child(5, " rather not.")]},
        {"event": "judge", "node": 5, "score": 1.0, "problem": ""},
        backup(n2=1.0, n5=1.0),
        {"event": "commit", "node": 2},
        {"event": "commit", "node": 5},
        {"event": "end", "text": "I would rather not.", "finish_reason": "stop", "score": 1.0, "usage": {}},
    ]
