"""Runs the command, in this process or as a real one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rain_decoding.cli import main

SOURCE = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Result:
    """What a run of the command left."""

    code: int
    out: str
    err: str


Rain = Callable[..., Result]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    """The command in this process: `rain("version")`, with `stdin="..."` where it reads."""

    def rain(*arguments: str | Path, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = stopped.value.code
        return Result(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return rain


def start(
    *arguments: str | Path, prepare: Callable[[], object] | None = None, **options: object
) -> subprocess.Popen[str]:
    """The command as a process of its own, which Ctrl-C reaches also where the tests run in the background.

    There SIGINT is ignored, and a process that is started inherits that. `prepare` is called in the new process.
    """

    def prepared() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prepare is not None:
            prepare()

    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(
        [sys.executable, "-m", "rain_decoding.cli", *map(str, arguments)],
        text=True,
        env=environment,
        preexec_fn=prepared,
        **settings,
    )  # type: ignore[call-overload]
