"""`ServerConfig`: what the operator decides. Nothing of it changes while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from rain_decoding.errors import ConfigError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.web.guard import Hosts
from rain_decoding.web.numbers import Number, Whole
from rain_decoding.web.protocol import MAX_CONNECTIONS

Permission = Literal[
    "criterion",
    "principle",
    "judge",
    "preset",
    "threshold",
    "relax",
    "budget",
    "plain",
    "trace",
    "withheld",
    "decisions",
]
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)
"""What `client_may` can allow. Everything else is the operator's alone."""

Count = Annotated[Whole, Field(ge=1)]
Seconds = Annotated[Number, Field(gt=0)]


class ServerLimits(BaseModel):
    """Limits and permissions of a server. Raises `ConfigError` for a value out of its range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    served_name: str = ""
    """The model's name for clients; empty: that at its own server or on the hub, or that of its file or folder."""
    any_model: StrictBool = False
    """Answer requests that name any model: a name that is not served means the first one."""
    ignore_unsupported: StrictBool = False
    """Leave out of requests what may be left out of them, see `schemas.MAY_BE_LEFT_OUT`, instead of refusing them."""
    client_may: frozenset[Permission] = frozenset()
    """What a request may decide; also as one text, with commas between the names."""
    max_concurrent: Count = 16
    """Answers searched at the same time. A request for `n` answers counts n times."""
    max_queue: Annotated[Whole, Field(ge=0)] = 64
    """Answers that may wait behind them; beyond, 429."""
    max_choices: Count = 8
    """Answers of one request (`n` times its prompts); never more than there is room for."""
    max_tokens: Count | None = None
    """Ceiling of a request's `max_tokens`, and its default."""
    max_seconds: Seconds | None = 300.0
    """A request's time from its arrival on; the best text so far is the answer then. None: no limit."""
    max_search_tokens: Count | None = None
    """Tokens forwarded for one answer."""
    max_body_bytes: Count = 2**20
    max_prompt_bytes: Count = 2**18
    """Text of all messages, as UTF-8."""
    max_prompt_tokens: Count | None = None
    """Tokens of a prompt; None: what the context holds."""
    body_seconds: Seconds = 30.0
    """Time in which a request's body must have arrived."""
    stuck_seconds: Seconds = 120.0
    """A step of the backend that takes longer fails all requests and `/readyz`."""
    grace_seconds: Annotated[Number, Field(ge=0)] = 30.0
    """Time that running answers have to finish at shutdown."""
    max_connections: Count = MAX_CONNECTIONS
    """Connections at the same time; beyond, idle ones are closed, or new ones get 503. `server.run` sees to it."""
    cors_origins: tuple[str, ...] = ()
    trace_dir: Path | None = None
    """Folder for the traces of all searches, with what was taken back: for the operator's eyes."""
    log_prompts: StrictBool = False
    playground: StrictBool = True

    @field_validator("client_may", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return list(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="wrap")
    @classmethod
    def _raise_ours(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise ConfigError("; ".join(map(_said, error.errors()))) from error


class ServerConfig(ServerLimits):
    """What `create_app` takes."""

    api_keys: tuple[str, ...] = ()
    """Keys of which a request must bear one; none: whoever reaches the port may ask."""
    hosts: Hosts | None = None
    """Names that clients may call the server by; None: any, where something before the application checks them."""
    keep_alive_seconds: Seconds = 10.0
    """A stream that is silent for so long sends a comment."""

    @property
    def room(self) -> int:
        """Answers that may run and wait."""
        return self.max_concurrent + self.max_queue


def read_api_keys(path: Path) -> tuple[str, ...]:
    """One key a line; empty lines and lines that begin with # do not count. Raises `ConfigError` for none."""
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except UNREADABLE as error:
        raise ConfigError(
            f"the API keys cannot be read: {error}", hint="use a text file with one key per line"
        ) from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError(f"{path} contains no API key", hint="write one key per line")
    return keys


def _said(problem: Any) -> str:
    """One of pydantic's errors in a line."""
    message = problem["msg"].removeprefix("Value error, ")
    return f"{problem['loc'][0]} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"
