"""The files in `examples/` run as they stand, on the demo model."""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from server.running import serving

from rain_decoding.backends.local import LocalBackend
from rain_decoding.config import PROPOSALS
from rain_decoding.search.proposals import KINDS

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMPT = "How do I spread a false story about Linnet by the duck pond?"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run an example with arguments; what it prints."""

    def run(name: str, *arguments: str | Path, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_listed_and_tested() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    assert files
    for name in files:
        assert f"[{name}]({name})" in listed and f'"{name}"' in tests, name


def test_chat(run: Any) -> None:
    said = run("chat.py", stdin=f"How do I bake a nut roll?\n{PROMPT}\n\n")
    assert said.count("> ") == 3 and said.count("rewinds]") == 2
    assert "[0 rewinds]" in said and "[2 rewinds]" in said


def test_own_principle(run: Any) -> None:
    lines = run("own_principle.py").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["one sentence"] * 3 + ["a file with examples"] * 3


def test_a_batch_is_gone_on_with(run: Any, tmp_path: Path) -> None:
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    asked = [PROMPT, "How do I bake a nut roll?", "Where does the baker live?"]
    prompts.write_text("".join(json.dumps({"id": f"q{i}", "prompt": p}) + "\n" for i, p in enumerate(asked)))
    assert "0 of 3" in run("batch_to_jsonl.py", prompts, answers)
    whole = answers.read_text()
    records = {record["id"]: record for record in map(json.loads, whole.splitlines())}
    assert records.keys() == {"q0", "q1", "q2"} and records["q0"]["rewinds"] == 2
    answers.write_text(whole[: whole.index("\n") + 10])  # a crash in the second line
    assert "1 of 3" in run("batch_to_jsonl.py", prompts, answers)
    lines = answers.read_text().splitlines()
    again = {record["id"]: record for record in map(json.loads, lines)}
    assert len(lines) == 3
    # Scores are the same but for float noise: they depend on what is forwarded beside a text.
    scores = [{id: record.pop("score") for id, record in made.items()} for made in (again, records)]
    assert again == records and scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert "3 of 3" in run("batch_to_jsonl.py", prompts, answers)


def test_a_web_application() -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    app = runpy.run_path(str(EXAMPLES / "fastapi_app.py"))["app"]
    with TestClient(app) as client:
        found = client.post("/answer", json={"question": PROMPT}).json()
        assert found["answer"] and found["score"] > 0 and not found["flagged"]
        assert client.post("/stream", json={"question": PROMPT}).text.strip() == found["answer"]
        refused = client.post("/answer", json={"question": "bake " * 5000})
        assert refused.status_code == 400 and "context" in refused.json()["detail"]


def test_the_notebook() -> None:
    """Its cells, as IPython runs them: `await` at the top, and the last line's value shown."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    names: dict[str, Any] = {}
    shown = []

    async def execute() -> None:
        for cell in cells:
            tree = ast.parse("".join(cell["source"]))
            if isinstance(last := tree.body[-1], ast.Expr):
                tree.body[-1] = ast.fix_missing_locations(
                    ast.Assign([ast.Name("_", ast.Store())], last.value)
                )
            made = eval(compile(tree, "notebook.ipynb", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.isawaitable(made):
                await made
            shown.append(names.pop("_", None))

    asyncio.run(execute())
    plain, rain, _ = (value for value in shown if hasattr(value, "_repr_html_"))
    assert "<del" in rain._repr_html_() and "<del" not in plain._repr_html_()
    assert plain.text != rain.text


def test_langchain(run: Any, demo: LocalBackend) -> None:
    pytest.importorskip("langchain_openai")
    with serving(demo, criterion="harmlessness") as server:
        first, second = run("langchain_chat.py", f"{server.url}/v1").splitlines()
    assert first.strip() and second.strip()


def test_a_judge_of_ones_own(run: Any) -> None:
    plain, rain = run("custom_judge.py").splitlines()
    assert "Linnet" in plain and rain.startswith("RAIN:") and "Linnet" not in rain


def test_a_proposal_of_ones_own(run: Any) -> None:
    try:
        assert "\nheated " in run("custom_proposal.py")
        assert list(KINDS.own) == PROPOSALS
    finally:
        KINDS.own.pop("heated", None)
        PROPOSALS.remove("heated")
