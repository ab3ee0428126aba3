"""What is installed is pinned: everything that the extras bring, and what that brings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def wanted() -> Iterator[Requirement]:
    """What the project asks for, with all its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if (requirement := Requirement(line)).name != "rain-decoding":
            yield requirement


def closure() -> set[str]:
    """Names of all packages that installing the extras brings to this machine, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in wanted()]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for part in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), part
            if key in found:
                continue
            found.add(key)
            try:
                needs = distribution(requirement.name).requires or ()
            except PackageNotFoundError:
                continue
            waiting += [(Requirement(line), part) for line in needs]
    return {name for name, _ in found}


def test_everything_that_the_extras_bring_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        canonicalize_name(match[1]) for line in lines if (match := re.match(r"([\w.-]+)(?:\[.*\])?==", line))
    }
    assert len(pinned) > 100
    assert closure() - pinned == set()
