"""The layers of the package: imports point down, and nothing imports in a circle."""

from __future__ import annotations

from pathlib import Path

import layers
import pytest

GRAPH = layers.imports()


def test_every_part_has_a_layer() -> None:
    parts = {layers.part(module) for module in GRAPH} - {layers.OUTSIDE}
    assert parts == {part for layer in layers.LAYERS for part in layer}


def test_no_import_points_up() -> None:
    assert layers.upward(GRAPH) == []


def test_no_import_circle() -> None:
    assert layers.circle(GRAPH) == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two parts on two floors."""
    for name in ("cli/run.py", "cli/show.py", "search/tree.py", "types.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("cli/run.py", "from rain_decoding.search.tree import Tree", []),
        ("search/tree.py", "from rain_decoding import types", []),
        ("search/tree.py", "from rain_decoding.cli.run import main", ["search.tree imports cli.run"]),
        ("search/tree.py", "def f():\n    import rain_decoding.cli.run", ["search.tree imports cli.run"]),
        ("types.py", "from rain_decoding import search", ["types imports __init__"]),
    ],
)
def test_an_upward_import_is_seen(package: Path, module: str, line: str, wrong: list[str]) -> None:
    (package / module).write_text(line)
    assert layers.upward(layers.imports(package)) == wrong


def test_a_circle_is_seen(package: Path) -> None:
    (package / "cli/run.py").write_text("from rain_decoding.cli import show")
    assert layers.circle(layers.imports(package)) == []
    (package / "cli/show.py").write_text("from rain_decoding.cli.run import main")
    assert set(layers.circle(layers.imports(package))) == {"cli.run", "cli.show"}
