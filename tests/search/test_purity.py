"""The search does no input or output and needs no model: it is a computation that yields requests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rain_decoding.search

FOLDER = Path(rain_decoding.search.__path__[0])
SOURCES = sorted(FOLDER.rglob("*.py"))
HEAVY = {"torch", "transformers", "tokenizers", "sklearn", "scipy", "httpx2", "typer", "rich"}
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval"}
ALLOWED_IMPORTS = {
    "__future__", "collections", "hashlib", "dataclasses", "math", "typing", "numpy",
    "rain_decoding.config", "rain_decoding.errors", "rain_decoding.plugins", "rain_decoding.programs",
    "rain_decoding.search.randomness",
    "rain_decoding.types",
}  # fmt: skip


def test_sources_are_found() -> None:
    assert len(SOURCES) >= 8


def test_importing_the_search_loads_nothing_heavy() -> None:
    modules = [
        ".".join(("rain_decoding.search", *path.relative_to(FOLDER).with_suffix("").parts))
        for path in SOURCES
        if path.stem != "__init__"
    ]
    code = f"import sys, {', '.join(modules)}\nprint(*sorted(name.split('.')[0] for name in sys.modules))"
    environment = {"PYTHONPATH": str(FOLDER.parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
def test_no_input_or_output_in_the_source(path: Path) -> None:
    assert forbidden_calls(path.read_text(encoding="utf-8")) == set()


def test_forbidden_calls_are_seen() -> None:
    assert forbidden_calls("def f():\n    with open('x') as g:\n        print(g)") == {"open", "print"}


def forbidden_calls(source: str) -> set[str]:
    """Names of input and output functions that the source calls."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {call.id for call in calls if isinstance(call, ast.Name)} & FORBIDDEN_CALLS


@pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
def test_imports_point_down_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            known = name in ALLOWED_IMPORTS or name.startswith(("rain_decoding.search.", "collections."))
            assert known, f"{path.name} imports {name}"
