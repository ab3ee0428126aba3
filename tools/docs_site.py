"""What the documentation site shows beside `docs/`: the project's own pages and the examples. A hook of mkdocs.

Pages link to files as they lie in the repository; here the links are turned to where the site has them.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")
"""The target of a Markdown link to a file, without what stands behind a #."""
OWN = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples/index.md",
}
"""Files of the repository that are pages of the site, by where they lie there."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in `docs/`."""
    for source, page in OWN.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for example in sorted((ROOT / "examples").iterdir()):
        if write := WRITERS.get(example.suffix):
            text = f"# {example.name}\n\n{write(example.read_text(encoding='utf-8'))}\n"
            files.append(File.generated(config, _place(f"examples/{example.name}"), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page to where the site has their targets."""
    pages = {place: source for source, place in OWN.items()}
    here = page.file.src_uri
    folder = posixpath.dirname(pages.get(here, f"docs/{here}"))

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        return posixpath.relpath(_place(target), posixpath.dirname(here) or ".")

    return LINK.sub(turned, markdown)


def _place(source: str) -> str:
    """Where the site has a file of the repository."""
    if source in OWN:
        return OWN[source]
    path = Path(source)
    if path.parts[0] == "examples" and path.suffix in WRITERS:
        return path.with_suffix(".md").as_posix()
    return source.removeprefix("docs/")


def _code(text: str) -> str:
    return f"```python\n{text.rstrip()}\n```\n"


def _notebook(text: str) -> str:
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n".join(_code(source) if kind == "code" else f"{source}\n" for kind, source in cells)


WRITERS: dict[str, Callable[[str], str]] = {".py": _code, ".ipynb": _notebook}
"""How an example becomes a page, by its suffix."""
