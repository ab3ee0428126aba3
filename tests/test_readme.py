"""What the README and the pages below docs/ show works as it stands there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from first_screen import first_commands
from typer.testing import CliRunner

import rain_decoding
from rain_decoding.backends.local import LocalBackend
from rain_decoding.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
PROMPT = "How do I bake a nut roll at the summer fair?"


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The `rain` commands of the README that need neither a model of the reader's own nor a person."""
    lines = [line.split("#")[0].strip() for block in blocks("console") for line in block.splitlines()]
    chosen = [shlex.split(line) for line in lines if line.startswith("rain ")]
    return [
        words[1:]
        for words in chosen
        if not {"chat", "trace", "evaluate", "eval", "export", "rate", "serve"} & set(words)
        and not any("FOLDER" in word or word.endswith(".gguf") for word in words)
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


LABELLED = (
    '{"prompt": "Human: Hi\\n\\nAssistant:", "answer": " Hello.", "label": "good"}',
    '{"prompt": "Human: Hi\\n\\nAssistant:", "answer": " Go away.", "label": "bad"}',
)


# Those of serving.md and transformers.md need a server and a saved model: see tests/server and tests/custom_generate.
@pytest.mark.parametrize("page", ["guide.md", "demo-model.md", "calibrate.md"])
def test_python_examples_of_the_pages_run(
    page: str, demo: LocalBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelled.jsonl").write_text("\n".join(LABELLED), encoding="utf-8")
    examples = blocks("python", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {"backend": demo})


def test_the_guide_lists_what_the_package_offers():
    section = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (offered,) = (text for text in section if text.startswith("From Python\n"))
    rows = [line.split("|")[1] for line in offered.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(rain_decoding.__all__)
    assert all(hasattr(rain_decoding, name) for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_files_that_are_named_exist(page: Path):
    """Dotted names of the package, and paths in its folders."""
    text = page.read_text(encoding="utf-8")
    groups = set(re.findall(r"`(rain_decoding\.\w+)` \| ", text))  # entry points', which are not modules
    groups |= set(re.findall(r'entry-points\."(rain_decoding\.\w+)"', text))
    for name in re.findall(r"\brain_decoding(?:\.\w+)+", text):
        assert importable(name) or name in groups, f"{page.name} names {name}"
    folders = "|".join(path.name for path in (ROOT / "src" / "rain_decoding").iterdir() if path.is_dir())
    for path in re.findall(rf"`((?:{folders})/[\w/.-]*)`", text):
        assert (ROOT / "src" / "rain_decoding" / path).exists(), f"{page.name} names {path}"


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(str(error.name)):
            return True  # the module is there, an optional package is not
        return bool(module) and importable(module) and hasattr(importlib.import_module(module), attribute)
    except rain_decoding.MissingDependencyError:
        return True
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_first_screen_is_what_the_recorded_reader_types():
    """Title, why, three commands, a picture, a table; see `tools/first_screen.py`."""
    before, table, _ = README.partition("\n| ")
    assert table and len(before.splitlines()) <= 30
    assert re.findall(r"!\[[^\]]+\]\(docs/rewind.svg\)", before)
    assert [words[0] for words in first_commands(README)] == ["pip", "rain", "rain"]
