"""`rain serve`: an OpenAI-compatible server over one model."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from rain_decoding.backends.openai.facts import Facts
from rain_decoding.cli import options as o
from rain_decoding.cli.configuration import located
from rain_decoding.cli.output import err, status
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.errors import ConfigError, InputError, MissingDependencyError
from rain_decoding.extras import install

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from rain_decoding.server.config import ServerConfig
    from rain_decoding.server.models import Models

MAX_CONNECTIONS = 1000
"""As in `web.protocol`, which needs the extra."""


ApiKeyFile = Annotated[
    Path | None, typer.Option(help="File of API keys that clients must use, one per line.")
]
ClientMay = Annotated[
    str,
    typer.Option(
        help="Comma-separated list of what requests may set or see: criterion, principle, judge, preset, threshold, "
        "relax, budget, plain, trace, withheld, decisions."
    ),
]
Open = Annotated[
    bool, typer.Option("--open", help="Allow everything in --client-may, for trying things out.")
]
MaxConcurrent = Annotated[int, typer.Option(min=1, help="Maximum answers searched at the same time.")]
MaxQueue = Annotated[int, typer.Option(min=0, help="Maximum answers that may wait; beyond that, 429.")]
MaxChoices = Annotated[int, typer.Option(min=1, help="Maximum answers (n) per request.")]
TokenCeiling = Annotated[int | None, typer.Option(min=1, help="Maximum and default of max_tokens.")]
Seconds = Annotated[
    float, typer.Option(help="Time limit per request; the best text so far is then its answer. 0: no limit.")
]
SearchTokens = Annotated[int | None, typer.Option(min=1, help="Maximum tokens forwarded per answer.")]
PromptBytes = Annotated[int, typer.Option(min=1, help="Maximum bytes per prompt.")]
PromptTokens = Annotated[int | None, typer.Option(min=1, help="Maximum tokens per prompt.")]
BodyBytes = Annotated[int, typer.Option(min=1, help="Maximum bytes per request body.")]
BodySeconds = Annotated[float, typer.Option(help="Time limit for receiving a request body.")]
StuckSeconds = Annotated[float, typer.Option(help="Time after which a step of the model counts as hanging.")]
GraceSeconds = Annotated[float, typer.Option(help="Time for running answers to finish at shutdown.")]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host",
        help="Name that clients may call this server by, beside localhost and --host: NAME, *.NAME for those below it, "
        "or * for any; repeatable.",
    ),
]
MaxConnections = Annotated[int, typer.Option(min=1, help="Maximum connections; beyond that, 503.")]
CorsOrigins = Annotated[
    list[str] | None,
    typer.Option("--cors-origin", help="Origin whose pages may call this server (CORS); repeatable."),
]


TraceDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the traces of all searches, with the text that was taken back: `rain trace FILE`."
    ),
]


def serve(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="As --model; of a server's URL it is found out what is there."
        ),
    ] = None,
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
    engine_options: o.EngineOptions = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8000,
    allowed_hosts: AllowedHosts = None,
    served_name: Annotated[
        str,
        typer.Option(
            help="Model name shown to clients.", show_default="the model's, without address or path"
        ),
    ] = "",
    any_model: Annotated[
        bool,
        typer.Option("--any-model", help="Answer requests that name any model; other names mean the first."),
    ] = False,
    ignore_unsupported: Annotated[
        bool,
        typer.Option(
            "--ignore-unsupported",
            help="Answer requests with logprobs, min_p and the like without these, instead of refusing them.",
        ),
    ] = False,
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
    max_connections: MaxConnections = MAX_CONNECTIONS,
    cors_origins: CorsOrigins = None,
    trace_dir: TraceDir = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Include prompts in the log.")] = False,
    playground: Annotated[bool, typer.Option(help="Serve the playground at /.")] = True,
    otel: Annotated[bool, typer.Option("--otel", help="Send OpenTelemetry spans over OTLP.")] = False,
    config: o.ConfigFile = None,
) -> None:
    """Serve a model through OpenAI's API, its answers searched by RAIN. Logs are JSON lines on standard error."""
    try:
        from rain_decoding.server.loading import application
        from rain_decoding.server.logs import log_as_json
        from rain_decoding.server.run import serve as run
        from rain_decoding.server.settings import ServeSettings
    except ImportError as error:
        raise MissingDependencyError(f"rain serve needs {error.name}", hint=install("serve")) from error

    try:
        chosen = ServeSettings(**given(context, what))
    except ConfigError as error:
        raise located(context, error) from error
    listening(chosen.host, chosen.port).close()  # before the model is loaded
    log_as_json()  # what loading has to say, too
    _warn(chosen.host, chosen.server_config())
    with status(f"loading {chosen.model}"):
        app = application(chosen)
    _say_what_is_there(app.state.models.first.parser.decoders.operator.backend)
    _say_what_else(app.state.models)
    run(app, chosen.host, chosen.port, told=_say_where if err.is_terminal else None)


def given(context: typer.Context, what: str | None) -> dict[str, Any]:
    """The options that stand on the command line, in the environment or in a file."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    found = {
        name: context.params[name]
        for name, source in sources.items()
        # By its name: newer versions of typer have a class of their own for it.
        if name not in ("what", "config")
        and source is not None
        and source.name in ("COMMANDLINE", "DEFAULT_MAP")
    }
    if what is None:
        return found
    if (source := sources["model"]) is not None and source.name == "COMMANDLINE":
        raise InputError(f"{what} and --model name two models", hint="use one of them")
    return found | {"model": what}


def _say_what_is_there(backend: Any) -> None:
    """What was found out about a model behind a server."""
    facts = getattr(getattr(backend, "endpoint", None), "facts", None)
    if isinstance(facts, Facts):
        _tell(f"found: {facts.described()}")
        for problem in facts.lacks():
            _tell(f"  {problem}" if err.is_terminal else problem)


def _say_what_else(models: Models) -> None:
    """Which further models are served."""
    if further := models.models[1:]:
        _tell(
            f"also served, each loaded when first asked for: {', '.join(further)} (URL#NAME serves one alone)"
        )


def _say_where(name: str, url: str) -> None:
    err.print(f"serving {name}: API {url}/v1, playground {url}/, Ctrl-C ends it", markup=False)


def listening(host: str, port: int) -> socket.socket:
    """A socket that clients can already connect to. Raises `InputError` where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}", hint="choose another --port"
        ) from error


def _warn(host: str, server: ServerConfig) -> None:
    """Say what is open to whom."""
    from rain_decoding.web.guard import is_loopback

    if is_loopback(host):
        return
    if not server.api_keys:
        _tell(
            f"listening on {host} without --api-key-file: anyone who can reach it may send requests",
            logging.WARNING,
        )
    if server.client_may:
        _tell(f"clients on {host} may set: {', '.join(sorted(server.client_may))}", logging.WARNING)


def _tell(text: str, level: int = logging.INFO) -> None:
    """Say it to whoever sits at a terminal; into the log, one object a line, where nobody does."""
    if not err.is_terminal:
        log.log(level, text)
    elif level == logging.WARNING:
        err.print(f"[yellow]warning:[/] {escape(text)}")
    else:
        err.print(text, markup=False, style="dim")
