#!/usr/bin/env python3
"""Which part of the package may import which: `python tools/layers.py` prints the layers, and what breaks them.

A module imports from lower layers, or from its own folder; parts of one layer do not import each other. Imports inside
functions and for types count, too. The modules at the root of the package are parts like the folders.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "rain_decoding"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

LAYERS = [
    ["cli"],
    ["attacks", "benchmarks", "integrations"],
    ["evaluation"],
    ["server", "custom_generate", "microworld"],
    ["decoding"],
    ["calibration"],
    ["self_evaluation"],
    ["prompting", "scheduler"],
    ["backends"],
    ["search"],
    ["measurement", "config", "web", "demo"],
    ["plugins"],
    ["settings_file"],
    ["near_misses", "ranges", "turns", "control_text", "bounded", "files", "answer_picture", "api_keys"],
    ["types", "errors", "version", "extras"],
    ["programs", "secrets_in_text", "answer_html"],
]
"""From the top down."""
OUTSIDE = "__init__"
"""The package's own front, which is above all."""


def imports(source: Path = SOURCE) -> dict[str, set[str]]:
    """Modules of the package and what each imports of it, by dotted names without the package's."""
    modules = {_name(path, source): path for path in sorted(source.rglob("*.py"))}
    return {name: set(_imported(path, modules)) - {name} for name, path in modules.items()}


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a higher layer, of another part of the same one, or of a part that has no layer."""
    floor = {part: number for number, layer in enumerate(reversed(LAYERS)) for part in layer}
    wrong = []
    for module, imported in sorted(graph.items()):
        for other in sorted(imported):
            above, below = part(module), part(other)
            if OUTSIDE in (above,) or above == below:
                continue
            if above not in floor or below not in floor or floor[below] >= floor[above]:
                wrong.append(f"{module} imports {other}")
    return wrong


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of modules that import each other; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def part(module: str) -> str:
    """The folder or root module that a module belongs to."""
    return module.split(".")[0]


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inner = name.removeprefix(f"{PACKAGE}.")
            if name == PACKAGE:
                yield OUTSIDE
            elif inner != name:
                # A name in a module is an import of that module.
                yield next(
                    (known for known in (inner, inner.rpartition(".")[0]) if known in modules), OUTSIDE
                )


def main() -> int:
    """Print the layers with the number of modules, and every import that breaks them."""
    graph = imports()
    sizes = Counter(map(part, graph))
    for number, layer in reversed(list(enumerate(reversed(LAYERS), start=1))):
        print(f"{number:3}  {'  '.join(f'{name} ({sizes[name]})' for name in layer)}")
    wrong, found = upward(graph), circle(graph)
    print(*wrong, sep="\n")
    if found:
        print("circle:", " -> ".join(found))
    return 1 if wrong or found else 0


if __name__ == "__main__":
    sys.exit(main())
