"""The command `rain`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from rain_decoding.cli import (
    attack,
    bench,
    calibrate,
    chat,
    compare,
    criteria,
    demo,
    eval,
    export,
    generate,
    listings,
    rate,
    serve,
    trace,
)
from rain_decoding.cli.configuration import Command, ModelCommand
from rain_decoding.cli.help_texts import with_examples
from rain_decoding.cli.output import err
from rain_decoding.errors import (
    ConfigError,
    InputError,
    MissingDependencyError,
    ModelNotFoundError,
    RainError,
    UnsupportedError,
)
from rain_decoding.files import UNREADABLE

app = typer.Typer(
    name="rain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def rain(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=listings.print_version, help="Print the version."),
    ] = False,
) -> None:
    """Makes a frozen language model align itself while it decodes."""


app.command("generate", cls=Command)(generate.generate)
app.command("compare", cls=Command)(compare.compare)
app.command("chat", cls=Command)(chat.chat)
app.command("trace")(trace.trace)
app.command("config")(listings.configuration)
app.command("version")(listings.version)
app.command("calibrate", cls=ModelCommand)(calibrate.calibrate)
app.command("bench", cls=ModelCommand)(bench.bench)
app.command("eval", cls=ModelCommand)(eval.evaluate)
app.command("export")(export.export)
app.command("rate")(rate.rate)
app.command("serve", cls=Command)(serve.serve)
app.add_typer(attack.app, name="attack")
app.add_typer(criteria.app, name="criteria")
app.add_typer(demo.app, name="demo")
app.add_typer(listings.models_app, name="models")

WRONG_USAGE = (ConfigError, InputError, ModelNotFoundError, UnsupportedError)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command: exit 0 done, 1 failed, 2 wrong usage, 3 the judge is no better than chance, 130 interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            with_examples(typer.main.get_command(app))(args, prog_name="rain")
    except RainError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, WRONG_USAGE) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (*UNREADABLE, ImportError) as error:
        err.print(f"[bold red]error:[/] {escape(str(explained(error)))}")
        sys.exit(1)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Tell a warning as the command's own, without the line of code that it came from."""
    err.print(f"[yellow]warning:[/] {escape(str(message))}")


def explained(error: BaseException) -> RainError:
    """What went wrong outside of this program, as an error of ours that says what to do."""
    if isinstance(error, ImportError):
        return MissingDependencyError(
            f"a package cannot be imported: {error}", hint="install it, or the extra that brings it"
        )
    if isinstance(error, UnicodeError):
        return InputError(
            f"a text is not valid Unicode: {error}", hint="remove unpaired surrogates from the data"
        )
    if isinstance(error, RecursionError):
        return InputError(
            "what was read is nested too deeply", hint="use files that are not nested like that"
        )
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return InputError(
            f"{named}{error.strerror or error}",
            hint="make room on the disk, or use files that may be read and written",
        )
    return InputError(f"a compressed file is damaged: {error}", hint="fetch the file again")
