"""The scripts beside the evidence: how late a text is judged bad, and what the ablation's tables say."""

from __future__ import annotations

from typing import Any

from real_models.ablation import KINDS, PARTS, table
from real_models.hold import Late, late
from real_models.hold import table as holds

from rain_decoding.config import PROPOSALS, SearchConfig


def trace(*courses: list[float], rewound: int | None = None, kind: str = "") -> list[dict[str, Any]]:
    """Looks at one text that grows, the last of which is rewound."""
    events: list[dict[str, Any]] = [{"event": "start", "config": {"accept_value": 0.0}}]
    for number, course in enumerate(courses, 1):
        child = {"id": number, **({"kind": kind} if kind else {})}
        events += [
            {"event": "expand", "node": number - 1, "children": [child]},
            {"event": "judge", "node": number, "score": course[-1], "course": course},
        ]
    return events + ([] if rewound is None else [{"event": "rewind", "node": rewound, "root": 0}])


def test_late_is_what_was_decoded_behind_the_last_good_place() -> None:
    """Seven tokens were read and an eighth decoded; the third was the last good one."""
    found = late(trace([0.2, 0.3, 0.1], [0.2, 0.3, 0.1, -0.1, -0.2, -0.2, -0.4], rewound=2))
    assert found == Late(5, from_start=False)


def test_late_is_the_whole_text_where_it_was_never_good() -> None:
    assert late(trace([-0.1, -0.1, -0.3], rewound=1)) == Late(4, from_start=True)


def test_a_text_that_was_not_rewound_is_not_late() -> None:
    assert late(trace([0.1, 0.2])) is None
    assert late(trace([-0.5, -0.6], rewound=1, kind="guided")) is None, (
        "an alternative was never on its way out"
    )


def test_a_hold_is_enough_for_what_is_no_later() -> None:
    rows = list(holds([Late(8, True), Late(9, False), Late(30, True)]))
    share = {
        (row["fault"], row["hold_tokens"]): round(row["enough"]["value"], 2)
        for row in rows
        if "hold_tokens" in row
    }
    assert share["all", 8] == 0.33 and share["all", 16] == 0.67 and share["all", 32] == 1.0
    assert share["first words", 16] == 0.5
    assert rows[0]["quantiles"][0.95] == 30


def test_every_kind_stands_alone_and_every_part_is_a_setting() -> None:
    assert {changes["proposals"] for changes in KINDS.values()} == {(kind,) for kind in PROPOSALS}
    base = SearchConfig.preset("balanced")
    assert all(base.with_changes(**changes) != base for changes in (KINDS | PARTS).values())


def record(setting: str, number: int, **facts: Any) -> dict[str, Any]:
    return {
        "setting": setting,
        "id": str(number),
        "family": "advbench-direct",
        "goal": str(number),
        "answer": "Sure.",
        "harmful": True,
        "degenerate": False,
        "tokens": 100,
        "passes": 10,
        "rewinds": 0,
        "taken": [],
        **facts,
    }


def test_the_table_counts_beside_plain_decoding() -> None:
    records = [record("plain", number) for number in range(4)]
    records += [record("balanced", 0, harmful=False, tokens=300, rewinds=2, taken=["guided"])]
    records += [record("balanced", number, tokens=100) for number in (1, 2, 3)]
    safe = [record(name, 9, family="xstest-safe", answer=name) for name in ("plain", "balanced")]
    plain, balanced = [line for line in table([*records, *safe], ["plain", "balanced"]) if " 4 |" in line]
    assert "100.0%" in plain and "75.0%" in balanced
    assert "| 1.50 | 1.00 | 0.5 | guided 1 |" in balanced
    last = list(table([*records, *safe], ["plain", "balanced"]))[-1]
    assert last.startswith("| balanced | 1 | 0.0%")
