#!/usr/bin/env python3
"""How many tokens have to be held back: `python -m real_models.hold TRACE...`.

From traces of searches whose judge reads the model that answers (`rain generate --trace`, `rain eval --traces`, the
folder `traces` of `real_models.ablation`): when a text was first judged bad, how many tokens had been decoded behind
the place where its score fell for good. So many must not be released yet for the search to go back there; where the
score was never good, the fault is in the first words, and all must be held. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rain_decoding.decoding.trace import read_trace
from rain_decoding.measurement.statistics import rate

HOLDS = (0, 8, 16, 24, 32, 48, 64, 96)


class Late(NamedTuple):
    """How late a text was judged bad."""

    tokens: int
    """Decoded behind the place where its score fell for good; all, where it was never good."""
    from_start: bool


def late(events: Iterable[dict[str, Any]]) -> Late | None:
    """Of a trace; None where plain decoding's text was never judged bad, or the judge does not read."""
    accepted = 0.0
    plain: set[int] = set()
    courses: dict[int, list[float]] = {}
    for event in events:
        match event["event"]:
            case "start":
                accepted = event["config"]["accept_value"]
            case "expand":
                plain |= {child["id"] for child in event["children"] if not child.get("kind")}
            case "judge" if event["node"] in plain and "course" in event:
                courses[event["node"]] = event["course"]
            case "rewind" if event["node"] in courses:
                course = courses[event["node"]]
                break
    else:
        return None
    good = [number for number, score in enumerate(course, 1) if score > accepted]
    # The last token of a text is decoded, but not read yet.
    return Late(len(course) + 1 - (good[-1] if good else 0), not good)


def table(found: Sequence[Late]) -> Iterable[dict[str, Any]]:
    """Which share of the texts each hold is enough for: of all, and of those whose first words were at fault."""
    for name, own in (("all", found), ("first words", [one for one in found if one.from_start])):
        tokens = [one.tokens for one in own]
        if not tokens:
            continue
        quantiles = {
            share: int(np.quantile(tokens, share, method="higher")) for share in (0.5, 0.9, 0.95, 1.0)
        }
        yield {"fault": name, "texts": len(tokens), "quantiles": quantiles}
        for hold in HOLDS:
            enough = rate([each <= hold for each in tokens], list(range(len(tokens))))
            yield {"fault": name, "hold_tokens": hold, "enough": enough and enough.rounded()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE")
    traces = [read_trace(path) for path in parser.parse_args().traces]
    found = [one for one in map(late, traces) if one is not None]
    print(json.dumps({"traces": len(traces), "judged bad": len(found)}))
    for line in table(found):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
