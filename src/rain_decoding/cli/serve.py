"""`rain serve`: an OpenAI-compatible server over one model."""

from __future__ import annotations

import socket
import tomllib
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rain_decoding.cli import options as o
from rain_decoding.cli.output import err
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.errors import ConfigError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rain_decoding.server.config import ServerConfig

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the options' defaults from a TOML file whose keys are their names."""
    if file is None:
        return None
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {file}: {error}", hint="a TOML file, such as: port = 9000") from error
    names = {
        opt.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for opt in (*parameter.opts, *parameter.secondary_opts)
        if parameter.name not in ("config", "help") and opt.startswith("--") and not opt.startswith("--no-")
    }
    chosen = {key.replace("-", "_"): value for key, value in settings.items()}
    if unknown := sorted(chosen.keys() - names.keys()):
        raise ConfigError(
            f"--config {file} holds unknown options: {', '.join(unknown)}",
            hint=f"options: {', '.join(names)}",
        )
    context.default_map = {names[key]: value for key, value in chosen.items()}
    return file


Config = Annotated[
    Path | None,
    typer.Option(
        is_eager=True,
        callback=_read_config,
        help="TOML file with any of these options; the command line wins.",
    ),
]
ApiKeyFile = Annotated[Path | None, typer.Option(help="File of keys that clients need, one a line.")]
ClientMay = Annotated[
    str,
    typer.Option(
        help="Comma-separated: what requests may decide: criterion, principle, preset, threshold, budget, "
        "plain, trace."
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Allow all of --client-may: to try things out.")]
MaxConcurrent = Annotated[int, typer.Option(min=1, help="Answers searched at the same time.")]
MaxQueue = Annotated[int, typer.Option(min=0, help="Answers that may wait behind them; then 429.")]
MaxChoices = Annotated[int, typer.Option(min=1, help="Answers (n) per request at most.")]
TokenCeiling = Annotated[int | None, typer.Option(min=1, help="Ceiling and default of max_tokens.")]
Seconds = Annotated[
    float, typer.Option(help="Time of one request; the best text so far is its answer then. 0: no limit.")
]
SearchTokens = Annotated[int | None, typer.Option(min=1, help="Tokens forwarded for one answer at most.")]
PromptBytes = Annotated[int, typer.Option(min=1, help="Bytes of a prompt at most.")]
PromptTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of a prompt at most.")]
BodyBytes = Annotated[int, typer.Option(min=1, help="Bytes of a request's body at most.")]
BodySeconds = Annotated[float, typer.Option(help="Time in which a body must have arrived.")]
StuckSeconds = Annotated[float, typer.Option(help="A step of the model that takes longer counts as hanging.")]
GraceSeconds = Annotated[float, typer.Option(help="Time that running answers have at shutdown.")]
CorsOrigin = Annotated[
    list[str] | None, typer.Option(help="Origin whose pages may call this server; repeatable.")
]


def serve(
    model: o.Model = "demo",
    criterion: o.CriterionName = None,
    principle: o.Principle = None,
    judge: o.Judge = None,
    preset: o.Preset = DEFAULT_PRESET,
    settings: o.Setting = None,
    fallback: o.Fallback = None,
    refusal: o.Refusal = None,
    embedding: o.EmbeddingName = "hashing",
    prompt_format: o.Format = "auto",
    thinking: o.Thinking = False,
    device: o.Device = None,
    dtype: o.Dtype = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
    served_name: Annotated[
        str, typer.Option(help="The model's name for clients.", show_default="--model")
    ] = "",
    api_key_file: ApiKeyFile = None,
    client_may: ClientMay = "",
    open_to_clients: Open = False,
    max_concurrent: MaxConcurrent = 16,
    max_queue: MaxQueue = 64,
    max_choices: MaxChoices = 8,
    max_tokens: TokenCeiling = None,
    max_seconds: Seconds = 300.0,
    max_search_tokens: SearchTokens = None,
    max_prompt_bytes: PromptBytes = 2**18,
    max_prompt_tokens: PromptTokens = None,
    max_body_bytes: BodyBytes = 2**20,
    body_seconds: BodySeconds = 30.0,
    stuck_seconds: StuckSeconds = 120.0,
    grace_seconds: GraceSeconds = 30.0,
    cors_origin: CorsOrigin = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Put prompts into the log.")] = False,
    playground: Annotated[bool, typer.Option(help="Serve the playground at /.")] = True,
    otel: Annotated[bool, typer.Option("--otel", help="Send OpenTelemetry spans over OTLP.")] = False,
    config: Config = None,
) -> None:
    """Serve a model by OpenAI's API, its answers searched by RAIN. Logs are JSON lines on standard error."""
    options = dict(locals())
    try:
        from rain_decoding.server.run import serve as run
    except ImportError as error:
        raise MissingDependencyError(
            f"rain serve needs {error.name}", hint='pip install "rain-decoding[serve]"'
        ) from error

    server = server_config(options)
    listening(host, port).close()  # before the model is loaded
    _warn(host, server)
    run(application(options, server), host, port)


def listening(host: str, port: int) -> socket.socket:
    """A socket that clients can already connect to. Raises `InputError` where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}", hint="give another --port"
        ) from error


def options_of(file: Path) -> dict[str, Any]:
    """The options of `rain serve --config FILE`, by name. Raises `ConfigError`."""
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    try:
        with typer.main.get_command(app).make_context("serve", ["--config", str(file)]) as context:
            return context.params
    except typer.BadParameter as error:
        raise ConfigError(f"--config {file}: {error.format_message()}") from error


def server_config(options: dict[str, Any]) -> ServerConfig:
    """What the options say of the server. Raises `ConfigError`."""
    from rain_decoding.server.config import PERMISSIONS, ServerConfig, read_api_keys

    keys, named = options["api_key_file"], options["client_may"].split(",")
    settings = {field.name: options[field.name] for field in fields(ServerConfig) if field.name in options}
    return ServerConfig(
        **settings
        | {
            "served_name": options["served_name"] or options["model"],
            "api_keys": () if keys is None else read_api_keys(keys),
            "client_may": frozenset(
                PERMISSIONS if options["open_to_clients"] else filter(None, map(str.strip, named))
            ),
            "max_seconds": options["max_seconds"] or None,
            "cors_origins": tuple(options["cors_origin"] or ()),
        }
    )


def application(options: dict[str, Any], server: ServerConfig) -> FastAPI:
    """Load the model, and make the application that serves it."""
    from rain_decoding.server.app import create_app
    from rain_decoding.server.telemetry import otlp_provider

    provider = otlp_provider() if options["otel"] else None
    setup = o.set_up(**{name: options[name] for name in signature(o.set_up).parameters})
    return create_app(setup.decoder, server, preset=options["preset"], tracer_provider=provider)


def _warn(host: str, server: ServerConfig) -> None:
    """Say what is open to whom."""
    if host in LOOPBACK:
        return
    if not server.api_keys:
        err.print(f"[yellow]warning:[/] listening at {host} without --api-key-file: anyone there may ask")
    if server.client_may:
        names: Any = ", ".join(sorted(server.client_may))
        err.print(f"[yellow]warning:[/] clients at {host} decide: {names}")
