"""The line that says what is being done, on a real terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from cli.command import SOURCE
from decoder_worlds import GOOD

PROGRAM = """
import sys, threading
from rain_decoding.cli.waiting import waiting
seen = threading.Event()
def said():
    seen.set()
    return "news"
with waiting(said) as line:
    for piece in sys.argv[1:]:
        assert seen.wait(30)
        line.print(piece)
print()
"""


def on_terminal(*command: str, width: int = 40, typed: bytes = b"") -> str:
    """What a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": str(width), "LINES": "20", "TERM": "xterm",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        close_fds=True,
    )
    os.close(theirs)
    os.write(ours, typed)
    found = b""
    try:
        while piece := os.read(ours, 4096):
            found += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0, found.decode()
    return found.decode()


def screen(written: str, width: int) -> str:
    """What is left on the terminal: a small one, with what the line uses of its commands."""
    shown: dict[tuple[int, int], str] = {}
    row = column = 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[^\x1b]", written):
        if token.startswith("\x1b["):
            number, command = re.sub(r"\D", "", token), token[-1]
            if command == "A":
                row -= int(number or 1)
            elif command == "G":
                column = int(number or 1) - 1
            elif command == "K":
                shown = {place: character for place, character in shown.items() if place[0] != row}
        elif token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        else:
            if column == width:
                row, column = row + 1, 0
            shown[row, column] = token
            column += 1
    rows = range(max((row for row, _ in shown), default=0) + 1)
    return "\n".join("".join(shown.get((row, n), " ") for n in range(width)).rstrip() for row in rows)


def test_the_line_comes_and_goes_and_the_text_stays() -> None:
    pieces = ["One piece", " and another,", " longer than the terminal is wide.", "\nA line.\n", "End"]
    written = on_terminal("-c", PROGRAM, *pieces)
    text = "".join(pieces)
    wrapped = "\n".join(line[n : n + 40] for line in text.split("\n") for n in range(0, len(line), 40))
    assert "news" in written
    assert screen(written, 40) == "\n".join(line.rstrip() for line in wrapped.split("\n"))


def test_text_that_fills_the_line_is_not_written_over() -> None:
    written = on_terminal("-c", PROGRAM, "x" * 40, "y" * 3, width=40)
    assert screen(written, 40) == "x" * 40 + "\nyyy"


def test_a_chat_on_a_terminal_keeps_its_history_and_says_what_it_does(script: Path) -> None:
    model = ["--model", f"scripted:{script / 'model.toml'}", "--criterion", str(script / "kind.toml")]
    home = f"XDG_STATE_HOME={script}"
    program = (
        f"import os; os.environ.update([{home.split('=', 1)!r}]); from rain_decoding.cli import main; main()"
    )
    written = on_terminal("-c", program, "chat", *model, width=200, typed=b"Open the lock.\n/quit\n")
    assert GOOD.strip() in screen(written, 200) and "judgements" in written
    (history,) = script.rglob("chat_history")
    assert "Open the lock." in history.read_text()
