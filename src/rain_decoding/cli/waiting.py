"""A line on a terminal that says what is being done until there is more text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.cells import cell_len
from rich.markup import escape
from rich.status import Status

from rain_decoding.cli.output import err, visible


class News:
    """What is shown, asked for anew whenever the line is drawn."""

    def __init__(self, said: Callable[[], str]):
        self.said = said

    def __rich__(self) -> str:
        return escape(self.said())


class Waiting:
    """Prints text, and below it a line that goes when there is more."""

    def __init__(self, said: Callable[[], str]):
        self.said = said
        self._line = ""
        """What stands on the last line of the text."""
        self._status: Status | None = None
        self._beside = sys.stdout.isatty()
        """Whether the text is printed on the same terminal."""

    def show(self) -> None:
        """Draw the line; not where the terminal's cursor waits between two lines, since it could not be put back."""
        if self._column == 0 and self._line:
            return
        if self._line:
            err.file.write("\n")
        self._status = Status(News(self.said), console=err)
        self._status.start()

    def hide(self) -> None:
        """Take the line away, and put the cursor behind the text."""
        if self._status is None:
            return
        self._status.stop()
        self._status = None
        if self._line:
            err.file.write(f"\x1b[1A\x1b[{self._column + 1}G")
            err.file.flush()

    def print(self, text: str) -> None:
        """Print a piece of text, on standard output."""
        self.hide()
        print(visible(text) if self._beside else text, end="", flush=True)
        if self._beside:
            self._line = (self._line + visible(text)).rpartition("\n")[2]
        self.show()

    @property
    def _column(self) -> int:
        """Where the next character will stand, from 0."""
        return cell_len(self._line) % err.width


class Plain(Waiting):
    """The same where no terminal is there: only the text."""

    def show(self) -> None:
        """Nobody sees it."""


@contextmanager
def waiting(said: Callable[[], str]) -> Iterator[Waiting]:
    """Show what is `said` on standard error, where that is a terminal, until text is printed, and again behind it."""
    line = Waiting(said) if err.is_terminal else Plain(said)
    line.show()
    try:
        yield line
    finally:
        line.hide()
