"""How many threads a model gets where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rain_decoding.backends.gguf import threads


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Pretend to be one: processors, those allowed, the container's quota, the load, OMP_NUM_THREADS."""

    def pretend(
        processors: int, allowed: int, load: float = 0.0, limit: float = float("inf"), omp: str = ""
    ) -> int:
        monkeypatch.setattr(os, "cpu_count", lambda: processors)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        monkeypatch.setattr(threads, "quota", lambda: limit)
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
        return threads.default_threads()

    return pretend


def test_threads_keep_to_what_the_process_may_use(machine) -> None:  # type: ignore[no-untyped-def]
    assert machine(8, 8) == 8
    assert machine(8, 3) == 3, "its affinity"
    assert machine(8, 8, limit=2.5) == 2, "its container's share"
    assert machine(8, 8, limit=0.5) == 1
    assert machine(8, 8, omp="5") == 5
    assert machine(2, 2, omp="5") == 2


def test_busy_processors_are_left_out_down_to_half(machine) -> None:  # type: ignore[no-untyped-def]
    assert machine(8, 8, load=1.2) == 7
    assert machine(8, 8, load=7.9) == 4
    assert machine(2, 2, load=1.0) == 1
    assert machine(1, 1, load=3.0) == 1
    assert machine(64, 4, load=30.0) == 4, "the host is busy, but not so busy"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, float("inf")),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({"cpu.max": "nonsense"}, float("inf")),
    ],
    ids=str,
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.quota(tmp_path) == expected
