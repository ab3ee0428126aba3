"""`rain models`, `rain config`, `rain version`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rain_decoding.backends import BACKENDS, load_backend, names, options_of, read_options
from rain_decoding.cli import options as o
from rain_decoding.cli.configuration import given, known_keys
from rain_decoding.cli.output import out, print_json, status
from rain_decoding.plugins import Entry
from rain_decoding.settings_file import NAME, VARIABLE, as_text, find_file
from rain_decoding.version import __version__

models_app = typer.Typer(
    help="List the forms of model names; with --model, load the model and show what it supports."
)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    model: o.Model = "",
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """List the forms of model names; with --model, load the model and show what it supports."""
    if context.invoked_subcommand is not None:
        return
    if model:
        backend = load_backend(model, **read_options(model, engine_options or ()))
        facts: dict[str, Any] = {
            "model": backend.name,
            "context_length": backend.context_length,
            "chat_template": backend.codec.has_chat_template,
            "shares_prefixes": backend.capabilities.shares_prefixes,
            "hidden_states": bool(backend.capabilities.layers),
            "engine_options": dict(backend.engine_options),
        }
    else:
        facts = {entry.form: _about(entry) for entry in BACKENDS.values()}
    _print_facts(facts, json)
    if not model and not json:
        list_short_forms()
        list_options()


def list_short_forms() -> None:
    """Print what else may stand for a model, and this user's aliases."""
    for title, rows in (
        (
            "short forms",
            {server.form: server.note for server in names.SERVERS.values()} | names.BY_WHAT_IS_THERE,
        ),
        ("aliases", names.aliases()),
    ):
        if rows:
            out.print(f"\n{title}")
            _print_facts(rows, json=False)


@models_app.command("options")
def list_options(json: o.Json = False) -> None:
    """List what --engine-option may set, by the form of the model's name."""
    options = {entry.form: options_of(entry) for entry in BACKENDS.values()}
    if json:
        print_json(
            {
                form: {name: {"values": one.values, "about": one.note} for name, one in own.items()}
                for form, own in options.items()
            }
        )
        return
    for form, own in options.items():
        if own:
            out.print(f"\n--engine-option of {escape(form)}")
            table = Table(show_header=False)
            for name, one in own.items():
                table.add_row(name, one.values, one.note)
            out.print(table)


@models_app.command("probe")
def probe(
    endpoint: Annotated[
        str, typer.Argument(metavar="URL[#MODEL]", help="A base URL, such as http://127.0.0.1:8080/v1.")
    ],
    json: o.Json = False,
) -> None:
    """Find out what an OpenAI-compatible server supports, with a few tiny requests."""
    from rain_decoding.backends.openai import probe_endpoint

    with status(f"asking {endpoint}"):
        facts = probe_endpoint(names.canonical(endpoint, BACKENDS).removeprefix("openai:"))
    _print_facts(asdict(facts), json)


@models_app.command("add")
def add(
    alias: Annotated[str, typer.Argument(help="A short name.")],
    model: Annotated[str, typer.Argument(help="What it stands for, as behind --model.")],
) -> None:
    """Remember a model by a short name, for --model."""
    out.print(f"{alias}: {names.add_alias(alias, model, BACKENDS)}", markup=False)


@models_app.command("remove")
def remove(alias: Annotated[str, typer.Argument(help="The short name.")]) -> None:
    """Forget a short name."""
    names.remove_alias(alias)


def _about(entry: Entry[Any]) -> str:
    return f"{entry.note} (extra: {entry.extra})" if entry.extra else entry.note


def _print_facts(facts: dict[str, Any], json: bool) -> None:
    if json:
        print_json(facts)
        return
    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(Text(key), Text(str(value)))
    out.print(table)


def configuration(context: typer.Context, config: o.ConfigFile = None, json: o.Json = False) -> None:
    """Show the settings that hold where the command line says nothing else, and where each comes from."""
    known = known_keys(context.find_root().command)
    found = given(context, config)
    rows = {
        key: {
            "value": found[key].value if key in found else option.default,
            "source": found[key].source if key in found else "default",
        }
        for key, option in known.items()
    }
    file = find_file(config)
    if json:
        print_json({"file": None if file is None else str(file), "settings": rows})
        return
    out.print(f"file: {file or f'none ({NAME} here, {VARIABLE} or --config would name one)'}", markup=False)
    table = Table("key", "value", "from")
    for key, row in rows.items():
        value = "" if row["value"] is None else str(as_text(row["value"]))
        table.add_row(key, Text(value), Text(str(row["source"])), style="" if key in found else "dim")
    out.print(table)


def print_version(asked: bool) -> None:
    """What `rain --version` does."""
    if asked:
        print(f"rain-decoding {__version__}")
        raise typer.Exit


def version(json: o.Json = False) -> None:
    """Print the version of rain and of what it runs on."""
    versions = {"rain-decoding": __version__, "python": platform.python_version()}
    for package in ("numpy", "torch", "transformers"):
        try:
            versions[package] = installed(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    if json:
        print_json(versions)
    else:
        out.print("\n".join(f"{name} {number}" for name, number in versions.items()))
