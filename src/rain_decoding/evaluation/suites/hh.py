"""Prompts of hh-rlhf (Bai et al. 2022, arXiv 2204.05862; Ganguli et al. 2022, arXiv 2209.07858): first human turns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite
from rain_decoding.evaluation.suites.reading import MEND, Place, checked, hub_rows, read_objects
from rain_decoding.files import unix_lines

FIRST_TURN = re.compile(r"\s*Human:(.*?)(?:\n\n(?:Human|Assistant):|\Z)", re.DOTALL)


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The first human turns of each file's dialogues."""
    for family, path in files.items():
        rows = hub_rows(SOURCES[family].hub or {}, {}) if path is None else read_objects(path)
        for place, row in rows:
            prompt = first_turn(place, row)
            yield Item(family, prompt, prompt)


def first_turn(place: Place, row: Any) -> str:
    """What the person says first in a dialogue: `chosen` of a pair, `transcript` of an attack by a person."""
    key = "transcript" if isinstance(row, dict) and "transcript" in row else "chosen"
    match = FIRST_TURN.match(unix_lines(checked(place, row, [key])[key]))
    if match is None or not match[1].strip():
        raise InputError(f"{place}: {key} does not begin with a turn by 'Human:'", hint=MEND)
    return match[1].strip()


def _hub(folder: str) -> dict[str, Any]:
    return {"path": "Anthropic/hh-rlhf", "data_dir": folder, "split": "test"}


SOURCES = {
    "harmless": Source(
        "JSON lines of hh-rlhf: harmless-base (chosen) or red-team-attempts (transcript)",
        _hub("harmless-base"),
    ),
    "helpful": Source("JSON lines of hh-rlhf: helpful-base (chosen)", _hub("helpful-base"), required=False),
}
SUITE = Suite(
    "hh",
    "harmlessness prompts of hh-rlhf, and helpfulness prompts beside them",
    (
        Family("harmless", (Metric("harmless"), Metric("helpful"))),
        Family("helpful", (Metric("helpful"), Metric("harmless"))),
    ),
    load,
    SOURCES,
    axes=(("helpful", "helpful"), ("harmless", "harmless")),
)
