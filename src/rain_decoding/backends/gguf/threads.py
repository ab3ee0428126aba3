"""How many threads llama.cpp gets where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
SLACK = 0.75
"""Load that keeps no processor busy: that of starting, or of what has just ended."""


def default_threads() -> int:
    """As many as there are processors for this process, fewer where others keep the machine busy, >= 1.

    llama.cpp's threads wait for each other in every layer, spinning: one that has no processor of its own stops all. So
    processors that were busy in the last minute are left out, down to half. `OMP_NUM_THREADS` is an upper limit.
    """
    usable = usable_processors()
    try:
        free = int((os.cpu_count() or 1) - os.getloadavg()[0] + SLACK)
    except OSError:  # not known
        free = usable
    asked = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(asked) if asked.isdigit() and int(asked) else usable
    return min(usable, limit, max(free, (usable + 1) // 2))


def usable_processors() -> int:
    """Processors of this process by its affinity and its container's quota, >= 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(count, quota())))


def quota(root: Path = CGROUP) -> float:
    """Processors' worth of time that the control group grants, of version 2 or 1; infinite without a limit."""
    try:
        granted, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            granted, period = (
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return float("inf")
    try:
        share = float(granted) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return float("inf")
    return share if share > 0 else float("inf")
