"""The command as a real process: Ctrl-C, pipes, exit codes, and what a terminal shows."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command import start
from decoder_worlds import SCRIPT

from rain_decoding.decoding.trace import read_trace

ENDLESS = """
[[next]]
after = "It is ("
tokens = { A = 0.9, B = 0.1 }
[[next]]
tokens = { " and," = 1 }
"""


@pytest.fixture
def endless(script: Path) -> list[str | Path]:
    """Options for a model that never ends, and a search long enough to be interrupted."""
    (script / "endless.toml").write_text(ENDLESS, encoding="utf-8")
    model = f"scripted:{script / 'endless.toml'}"
    return ["--model", model, "--criterion", script / "kind.toml", "--max-tokens", "3000"]


def test_ctrl_c_stops_a_stream_cleanly(endless: list[str | Path], tmp_path: Path) -> None:
    file = tmp_path / "trace"
    with start("generate", "Go.", *endless, "--trace", file) as process:
        assert process.stdout is not None
        first = process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert first == "and," and set((first + rest).split()) == {"and,"}
    assert "cancelled" in err and "Traceback" not in err
    events = read_trace(file)
    assert events[-1]["finish_reason"] == "cancelled"
    assert events[-1]["text"].startswith((first + rest).strip())


def test_a_closed_pipe_is_no_traceback(endless: list[str | Path]) -> None:
    with start("generate", "Go.", *endless) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(3)
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err


def test_standard_input_json_and_a_terminal_on_standard_error(script: Path) -> None:
    ours, theirs = pty.openpty()
    model = ("--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml")
    with start("generate", "-", *model, "--json", stdin=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        out, _ = process.communicate("Open the lock.\n", timeout=60)
    shown = read_terminal(ours)
    assert process.returncode == 0
    assert json.loads(out)["text"] == "No, I will not."
    assert "searching" in shown or "loading" in shown


def test_wrong_usage_is_exit_2() -> None:
    with start("generate", "x", "--preset", "none") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: unknown preset 'none'") and "Traceback" not in err


def read_terminal(descriptor: int, until: str | None = None) -> str:
    """What was written to a terminal, up to a match of `until` or its end."""
    shown = b""
    while until is None or not re.search(until.encode(), shown):
        try:
            piece = os.read(descriptor, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    return shown.decode(errors="replace")


def evaluation(records: Path, workers: int) -> tuple[str | Path, ...]:
    """Arguments of an evaluation that takes long enough to be stopped in the middle."""
    size = ("--n", "500", "--decoders", "greedy", "--workers", str(workers))
    return ("demo", "evaluate", *size, "--records", records)


def test_ctrl_c_in_an_evaluation_keeps_every_finished_answer(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    arguments = evaluation(file, workers=1)
    ours, theirs = pty.openpty()
    with start(*arguments, "--json", stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours, until=r"[1-9]\d*/500")  # a display may leave out any one count
        process.send_signal(signal.SIGINT)
        shown += read_terminal(ours)
        assert process.stdout is not None
        out = process.stdout.read()
        process.wait(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "answers" in shown and "resume" in shown and "Traceback" not in shown
    kept = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert 1 <= len(kept) < 500
    assert len({record["prompt"] for record in kept}) == len(kept)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    arguments = evaluation(file, workers=2)
    ours, theirs = pty.openpty()
    with start(*arguments, stderr=theirs) as process:
        os.close(theirs)
        read_terminal(ours, until=r"[1-9]\d*/500")
        process.kill()
        # The terminal is closed once nobody holds it any more: neither the command nor a worker.
        read_terminal(ours)
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert file.read_text(encoding="utf-8").count("\n") < 500


def test_the_command_needs_none_of_the_extras() -> None:
    """What an extra brings is imported where it is used: without it the other commands work."""
    extras = "fastapi uvicorn prometheus_client httpx2 tenacity cyllama matplotlib sentence_transformers opentelemetry"
    code = f"import sys; sys.modules |= dict.fromkeys({extras.split()!r}); from rain_decoding.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "criteria"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0 and "harmlessness" in found.stdout, found.stderr


def test_a_warning_is_told_without_the_line_of_code_it_came_from(script: Path) -> None:
    own = script / "rain_criteria"
    own.mkdir()
    (own / "harmlessness.toml").write_text(SCRIPT["kind.toml"], encoding="utf-8")
    with start("demo", "export", "--gguf", script / "demo.gguf") as process:
        assert process.wait(timeout=60) == 0
    with start("generate", "Well?", "--model", script / "demo.gguf", "--max-tokens", "5") as process:
        _, said = process.communicate(timeout=60)
    assert said.startswith("warning: ") and "which are not used: harmlessness" in " ".join(said.split())
    assert "UserWarning" not in said and ".py:" not in said


def test_a_command_starts_without_what_it_may_not_need() -> None:
    """What takes long to import comes when it is used."""
    heavy = {
        "scipy",
        "sklearn",
        "torch",
        "transformers",
        "fastapi",
        "pydantic",
        "jinja2",
        "httpx2",
        "matplotlib",
    }
    code = "import sys, rain_decoding.cli; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(found.stdout.split())
