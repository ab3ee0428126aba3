"""`rain models`, `rain criteria`, `rain version`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rain_decoding.backends import BACKENDS, load_backend, options_of, read_options
from rain_decoding.cli import options as o
from rain_decoding.cli.output import out, print_json, status
from rain_decoding.plugins import Entry
from rain_decoding.self_evaluation.criterion import known_criteria, read_criterion
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
        list_options()


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
        facts = probe_endpoint(endpoint.removeprefix("openai:"))
    _print_facts(asdict(facts), json)


def _about(entry: Entry[Any]) -> str:
    return f"{entry.note} (extra: {entry.extra})" if entry.extra else entry.note


def _print_facts(facts: dict[str, Any], json: bool) -> None:
    if json:
        print_json(facts)
        return
    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(key, str(value))
    out.print(table)


def criteria(model: o.Model = "", engine_options: o.EngineOptions = None, json: o.Json = False) -> None:
    """List the criteria there are, and with --model also those the model brings."""
    files = known_criteria(_criteria_dirs(model, engine_options or []) if model else ())
    rows = {name: read_criterion(path) for name, path in files.items()}
    if json:
        print_json({name: {"summary": row.summary, "file": str(files[name])} for name, row in rows.items()})
        return
    table = Table("criterion", "question", "examples", "placement")
    for name, row in rows.items():
        placement = f"{row.placement}, suffix as good" if row.suffix_as_good else row.placement
        table.add_row(name, row.summary, str(len(row.examples)), placement)
    out.print(table)


def _criteria_dirs(model: str, engine_options: list[str]) -> tuple[Path, ...]:
    return load_backend(model, **read_options(model, engine_options)).criteria_dirs


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
