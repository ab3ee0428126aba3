"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rain_decoding.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DOCS = sorted((Path(__file__).parent.parent / "docs").rglob("*.md"))
PROMPT = "How do I bake a nut roll at the summer fair?"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The `rain` commands of the README that need neither a model of the reader's own nor a person."""
    lines = [line.split("#")[0].strip() for block in blocks("console") for line in block.splitlines()]
    chosen = [shlex.split(line) for line in lines if line.startswith("rain ")]
    return [
        words[1:]
        for words in chosen
        if not {"chat", "trace", "evaluate", "eval", "export", "rate", "serve"} & set(words)
        and "hf:FOLDER" not in words
    ]


def test_readme_names_the_test_command():
    assert any(line.strip() == "make test" for block in blocks("console") for line in block.splitlines())


def test_there_are_commands_to_try():
    assert len(commands()) >= 4


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_run(arguments: list[str]):
    quick = ["--max-tokens", "8"] if arguments[0] in ("generate", "compare") else []
    result = CliRunner().invoke(app, [PROMPT if word == "..." else word for word in arguments] + quick)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (example,) = (block for block in blocks("python") if "rain_decoding" in block)
    namespace: dict[str, object] = {}
    exec(compile(example.replace('["...", "..."]', f'["{PROMPT}"]'), "README.md", "exec"), namespace)
    assert len(namespace["completions"]) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "page", [Path(__file__).parent.parent / "README.md", *DOCS], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
