"""The package against the golden runs, which the brute-force reference wrote (see `tests/golden`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden.regenerate import PROMPT, RUNS, golden, golden_world
from search.driver import FINISH, nodes_below, preset_config, run_package

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_are_three_runs_per_preset() -> None:
    assert len(FILES) == 12
    assert sum(len(load(path)["nodes"]) for path in FILES) > 300


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_package_gives_the_golden_tree(path: Path) -> None:
    wanted = load(path)
    run = run_package(
        golden_world(wanted["settings"]), preset_config(wanted["preset"], **wanted["settings"]["rules"])
    )
    assert run.finish == FINISH[wanted["finish"]]
    assert [list(tokens) for tokens in run.tokens] == wanted["commits"]
    assert run.simulations == wanted["simulations"]
    nodes = [node for node in nodes_below(run.first_root) if node.evaluations]
    assert [list(node.tokens[len(PROMPT) :]) for node in nodes] == [
        node["tokens"] for node in wanted["nodes"]
    ]
    for node, expected in zip(nodes, wanted["nodes"], strict=True):
        assert node.evaluations == expected["evaluations"]
        assert node.visits == pytest.approx(expected["visits"], abs=1e-9)
        assert node.value == pytest.approx(expected["value"], abs=1e-9)
        assert node.prior == pytest.approx(expected["prior"], abs=1e-9)
        if expected["embedding"] is None:
            assert node.embedding is None
        else:
            assert node.embedding == pytest.approx(expected["embedding"], abs=1e-9)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_reference_still_writes_the_same(path: Path) -> None:
    wanted = load(path)
    again = golden(wanted["preset"], next(name for name in RUNS if RUNS[name] == wanted["settings"]))
    assert again.keys() == wanted.keys()
    for key in wanted.keys() - {"nodes"}:
        assert again[key] == wanted[key]
    for node, expected in zip(again["nodes"], wanted["nodes"], strict=True):
        assert node["tokens"] == expected["tokens"]
        assert node["evaluations"] == expected["evaluations"]
        for key in ("prior", "visits", "value"):
            assert node[key] == pytest.approx(expected[key], abs=1e-9)
