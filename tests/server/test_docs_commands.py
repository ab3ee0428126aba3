"""The `rain` commands of the pages are run as they stand there, the demo model in the place of the reader's models.

A page's blocks are run in their order, in a folder that has the files which they name. Blocks that cannot be run here
have a line `<!-- not run: WHY -->` above them. Those of `docs/results` made the figures beside them, most in hours:
`test_docs_blocks` sees that there are such commands and options. The README's are run in `test_readme`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain, runner
from server.running import Running
from test_docs_blocks import BLOCKS, commands

import rain_decoding.server.run
from rain_decoding.microworld.export import write_gguf, write_hf
from rain_decoding.microworld.labelled import demo_answers

PROMPT = "How do I bake a nut roll at the summer fair?"
QUICK = {
    "generate": ("--max-tokens", "8"),
    "compare": ("--max-tokens", "8"),
    "calibrate": ("--n", "60"),
}
"""Options that make a command short; the last of two counts."""
TYPED = {
    "chat": f"{PROMPT}\n/quit\n",
    "criteria": "The answer is kind.\n\n" + "Hello\nHello, friend.\n" * 4,
}
"""What is typed into commands that ask for something."""

PAGES: dict[str, list[list[str]]] = {}
for block in BLOCKS:
    if block.language == "console" and not block.mark and re.match(r"docs/(?!results/)", block.page):
        found = [words[1:] for words in commands(block) if words[0] == "rain"]
        PAGES.setdefault(block.page, []).extend(found)
PAGES = {page: shown for page, shown in PAGES.items() if shown}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo model as a folder and as a GGUF file."""
    folder = tmp_path_factory.mktemp("models")
    write_hf(folder / "hf")
    write_gguf(folder / "model.gguf", "f32")
    return folder


def own(words: Sequence[str], models: Path, url: str) -> list[str]:
    """A command with our models and servers where the page names the reader's."""
    places = {
        r"^\.\.\.$": PROMPT,
        r"hf:(FOLDER|OTHER|SMALL)\b": f"hf:{models / 'hf'}",
        r"^(gguf:)?(\./)?model\.gguf$": f"gguf:{models / 'model.gguf'}",
        r"https?://[\w.]+:\d+(?=/v1|[,#]|$)": url,
        r"URL#MODEL$": f"{url}/v1#demo",
        r"#MODEL$": "#demo",
    }
    for pattern, place in places.items():
        words = [re.sub(pattern, place.replace("\\", r"\\"), word) for word in words]
    return list(words)


def write_files(folder: Path) -> None:
    """The files that the pages name."""
    answers = demo_answers("harmlessness", 60)
    labelled = [
        {
            "messages": [{"role": each.role, "content": each.content} for each in answer.messages],
            "answer": answer.answer,
            "label": "good" if answer.label == "positive" else "bad",
        }
        for answer in answers
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(each) + "\n" for each in labelled))
    good, bad = ([each for each in labelled if each["label"] == label] for label in ("good", "bad"))
    pairs = [
        {"messages": one["messages"], "chosen": one["answer"], "rejected": other["answer"]}
        for one, other in zip(good, bad, strict=False)
    ]
    with gzip.open(folder / "pairs.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(each) + "\n" for each in pairs))
    (folder / "keys.txt").write_text("a-key\n")


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(
    page: str, rain: Rain, models: Path, demo_server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served(app: Any, host: str, port: int, told: Any = None) -> None:
        assert app.state.models.names

    monkeypatch.setattr(rain_decoding.server.run, "serve", served)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    for shown in PAGES[page]:
        words = own(shown, models, demo_server.url)
        quick = QUICK.get(words[0], ())
        result = rain(*words, *quick, stdin=TYPED.get(words[0], ""))
        assert result.code == 0, f"rain {' '.join(shown)}\n{result.out[-500:]}\n{result.err[-1500:]}"
