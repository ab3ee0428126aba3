"""The time that is left, where kinds of work are not equally slow."""

from __future__ import annotations

import pytest

from rain_decoding.measurement.pace import Pace


def test_each_kind_counts_by_its_own_pace() -> None:
    now = [0.0]
    pace = Pace({"quick": 10, "slow": 10}, clock=lambda: now[0])
    left: float | None = 0.0
    for _ in range(10):
        now[0] += 1
        left = pace.finished("quick")
    assert left == pytest.approx(10), "of the slow ones nothing is known yet"
    now[0] += 9
    assert pace.finished("slow") == pytest.approx(81)
    for _ in range(9):
        now[0] += 9
        left = pace.finished("slow")
    assert left == 0


def test_what_was_done_before_costs_nothing() -> None:
    now = [0.0]
    pace = Pace({"quick": 0, "slow": 4}, clock=lambda: now[0])
    now[0] += 500
    assert pace.finished("slow") is None, "a model was loaded meanwhile"
    now[0] += 5
    assert pace.finished("slow") == pytest.approx(10)
