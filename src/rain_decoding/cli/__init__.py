"""The command `rain`."""

from __future__ import annotations

import sys

import typer

from rain_decoding.cli import chat, compare, demo, generate, listings, trace
from rain_decoding.cli.output import err
from rain_decoding.errors import ConfigError, InputError, ModelNotFoundError, RainError, UnsupportedError

app = typer.Typer(
    name="rain",
    help="Makes a frozen language model align itself while it decodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("compare")(compare.compare)
app.command("chat")(chat.chat)
app.command("trace")(trace.trace)
app.command("models")(listings.models)
app.command("criteria")(listings.criteria)
app.command("version")(listings.version)
app.add_typer(demo.app, name="demo")

WRONG_USAGE = (ConfigError, InputError, ModelNotFoundError, UnsupportedError)


def main() -> None:
    """Run the command: exit 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except RainError as error:
        err.print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(2 if isinstance(error, WRONG_USAGE) else 1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
