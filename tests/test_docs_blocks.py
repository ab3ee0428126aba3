"""Code in the pages: commands and options that are there, files that parse, examples that run or say why they do not.

Python examples are run in `test_readme`, `tests/server` and `tests/custom_generate`, `rain` commands in
`tests/server/test_docs_commands.py`. What cannot be run here, since it needs a model, a GPU, a program of others or
hours, has a line `<!-- not run: WHY -->` above it.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from test_readme import PAGES, ROOT, importable

from rain_decoding.cli import app

RUN = {
    "README.md": "tests/test_readme.py",
    "docs/guide.md": "tests/test_readme.py",
    "docs/demo-model.md": "tests/test_readme.py",
    "docs/calibrate.md": "tests/test_readme.py",
    "docs/serving.md": "tests/server/test_openai_client.py",
    "docs/transformers.md": "tests/custom_generate/test_custom_generate_demo.py",
}
"""Pages whose Python examples a test runs, and which."""
MARK = "<!-- not run: "


class Block(NamedTuple):
    """A fenced block. `mark` says why it is not run; empty: there is no mark."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").split("\n")
    inside: list[str] | None = None
    for number, line in enumerate(lines, start=1):
        if (fence := re.fullmatch(r"\s*```(\w*)", line)) is None:
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside, start, language = [], number, fence[1]
            above = next((text for text in reversed(lines[: number - 1]) if text.strip()), "")
        else:
            mark = above.removeprefix(MARK).removesuffix(" -->") if above.startswith(MARK) else ""
            yield Block(page.relative_to(ROOT).as_posix(), start, language, "\n".join(inside), mark)
            inside = None


BLOCKS = [block for page in [*PAGES, ROOT / "SECURITY.md"] for block in blocks(page)]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each line, comments, assignments before the command, and what it is piped to left out."""
    for line in block.text.replace("\\\n", " ").split("\n"):
        words = shlex.split(re.sub(r"(^|\s)#.*", "", line))  # behind a letter it names a model or a key
        ends = [place for place, word in enumerate(words) if word in ("|", "<", ">", "&&", "&")]
        words = words[: min(ends, default=len(words))]
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        if words:
            yield words


def check(words: list[str]) -> str:
    """What is wrong with a command of ours; "unknown" for one of others."""
    match words:
        case ["rain", *arguments]:
            return _check_rain(arguments)
        case ["pip", "install", what, *_] if what.startswith((".[", "rain-decoding[")):
            extras = set(what.partition("[")[2].rstrip("]").split(","))
            return f"no extras {extras - EXTRAS}" if extras - EXTRAS else ""
        case ["make", target, *_]:
            return "" if re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) else f"no target {target}"
        case ["curl", *_]:
            return ""  # the tests of the server run them
        case ["python", "-m", module, *_]:
            return (
                ""
                if importable(module) or (ROOT / "tools" / Path(*module.split("."))).exists()
                else "unknown"
            )
        case ["python", file, *_]:
            return "" if (ROOT / file).exists() else f"no file {file}"
    return "unknown"


RAIN = typer.main.get_command(app)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def _check_rain(arguments: list[str]) -> str:
    """Whether the command line takes these, as far as that shows without running it."""
    command: Any = RAIN
    context = command.context_class(command, info_name="rain")
    while getattr(command, "commands", None) and arguments and arguments[0] in command.commands:
        name, *arguments = arguments
        command = command.commands[name]
        context = command.context_class(command, info_name=name, parent=context)
    if getattr(command, "commands", None) and arguments and not arguments[0].startswith("-"):
        return f"no command {arguments[0]}"
    try:
        _, left, _ = command.make_parser(context).parse_args(list(arguments))
    except Exception as error:
        return repr(error)
    return f"left over: {left}" if left and left != ["..."] else ""


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "console"], ids=str)
def test_commands_are_there(block: Block) -> None:
    for words in commands(block):
        problem = check(words)
        assert not problem or (problem == "unknown" and block.mark), f"{' '.join(words)}: {problem}"


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "python"], ids=str)
def test_python_is_run_or_says_why_not(block: Block) -> None:
    compile(block.text, str(block), "exec")
    if not block.mark:
        test = (ROOT / RUN[block.page]).read_text(encoding="utf-8")
        assert Path(block.page).name in test


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.language in ("toml", "json", "yaml")], ids=str
)
def test_files_parse(block: Block) -> None:
    parsed: Any = {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}[block.language](
        block.text
    )
    assert parsed


def test_other_languages_are_marked_or_known() -> None:
    for block in BLOCKS:
        known = block.language in ("console", "python", "toml", "json", "yaml", "text", "")
        assert known or block.mark, f"{block}: {block.language}"


def test_a_wrong_command_is_found() -> None:
    assert "no-such-option" in check(["rain", "generate", "...", "--no-such-option"])
    assert check(["rain", "no-such-command"])
    assert check(["pip", "install", ".[no-such-extra]"])
    assert check(["make", "no-such-target"])
    assert check(["llama-server"]) == "unknown"
    assert not check(["rain", "demo", "evaluate", "--n", "100"])
