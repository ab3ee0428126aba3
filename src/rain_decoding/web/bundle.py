"""JavaScript modules as one script, for a page that has to be a single file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

SHARED = Path(__file__).with_name("shared")
"""Files that every page may use."""

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)


def bundle(modules: Mapping[str, str], entry: str) -> str:
    """One script that does what the module `entry` does.

    Every module becomes a function that is called once and returns what it exports, each after those it imports, so
    that its own names stay its own.

    Args:
        modules: source texts by name, without ".js". They import by `import { a, b } from "./name.js";` and export
            declarations by `export function`, `export class` or `export const`, each at the start of a line.
        entry: the module that is run.

    Raises:
        ValueError: a module imports or exports in another form, imports one that is not there, or itself by others.
    """
    return "".join(_wrapped(name, modules[name]) for name in _in_order(modules, entry, ()))


def _in_order(modules: Mapping[str, str], entry: str, importing: tuple[str, ...]) -> Iterator[str]:
    """Names of the module and all that it needs, each once, behind what it needs itself."""
    if entry in importing or entry not in modules:
        raise ValueError(f"{' -> '.join([*importing, entry])}: no such module, or a circle")
    needed = (name for _, name in IMPORT.findall(modules[entry]))
    yield from dict.fromkeys(name for one in needed for name in _in_order(modules, one, (*importing, entry)))
    yield entry


def _wrapped(name: str, source: str) -> str:
    exported = EXPORT.findall(source)
    body = IMPORT.sub(r"const {\1} = module_\2;", EXPORT.sub("", source))
    if left := re.search(r"^\s*(?:import\b(?!\.)|export\b).*", body, re.MULTILINE):
        raise ValueError(f"{name}.js: {left[0].strip()!r} is not a form that can be bundled")
    return f"const module_{name} = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();\n"
