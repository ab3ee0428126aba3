"""`ServeSettings`: all that `rain serve` can be told, by its command line or in a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictBool, field_validator

from rain_decoding import near_misses
from rain_decoding.backends.names import aliases
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.errors import ConfigError
from rain_decoding.prompting import PromptFormat
from rain_decoding.server.config import PERMISSIONS, ServerConfig, ServerLimits, read_api_keys
from rain_decoding.settings_file import read_file
from rain_decoding.web.guard import Hosts
from rain_decoding.web.numbers import Whole


class ServeSettings(ServerLimits):
    """The model, how it decodes, where it listens, and the server's limits.

    The fields are named as in Python; an alias is the option's name where that is another one.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    model: str = "demo"
    criterion: str | None = None
    principle: str | None = None
    judge: str | None = None
    preset: str = DEFAULT_PRESET
    settings: tuple[str, ...] = Field(default=(), validation_alias="set")
    """Changes to the preset, each NAME=VALUE."""
    fallback: str | None = None
    refusal: str | None = None
    embedding: str = "hashing"
    prompt_format: PromptFormat = Field(default="auto", validation_alias="format")
    thinking: StrictBool = False
    device: str | None = None
    dtype: str | None = None
    engine_options: tuple[str, ...] = Field(default=(), validation_alias="engine_option")
    """How the model is loaded, each NAME=VALUE."""
    trust_model_criteria: StrictBool = False
    """Let criteria in the model's folder replace built-in ones."""
    host: str = "127.0.0.1"
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8000
    """0: a free one."""
    allowed_hosts: tuple[str, ...] = Field(default=(), validation_alias="allowed_host")
    """Names that clients may call the server by, beside the loopback's and the one it listens on."""
    api_key_file: Path | None = None
    """Keys, one a line."""
    open_to_clients: StrictBool = Field(default=False, validation_alias="open")
    """Allow all of `client_may`."""
    cors_origins: tuple[str, ...] = Field(default=(), validation_alias="cors_origin")
    otel: StrictBool = False
    """Send OpenTelemetry spans over OTLP."""

    @field_validator("max_seconds", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        """TOML and command lines have no None: 0 stands for it."""
        return None if value == 0 and not isinstance(value, bool) else value

    def with_changes(self, **changes: Any) -> ServeSettings:
        """The same with other values, by the fields' names. Raises `ConfigError`."""
        return ServeSettings(**self.model_dump(exclude_unset=True) | changes)

    def server_config(self) -> ServerConfig:
        """What the server itself has to know. Reads the keys; raises `ConfigError`."""
        if self.trace_dir is not None and not self.trace_dir.is_dir():
            raise ConfigError(f"trace_dir = {self.trace_dir}: there is no such folder", hint="make it first")
        return ServerConfig(
            **self.model_dump(include=set(ServerLimits.model_fields))
            | {
                "served_name": self.served_name or (self.model if self.model in aliases() else ""),
                "api_keys": () if self.api_key_file is None else read_api_keys(self.api_key_file),
                "client_may": PERMISSIONS if self.open_to_clients else self.client_may,
                "hosts": Hosts(self.host, self.allowed_hosts),
            }
        )


OPTIONS = tuple(str(field.validation_alias or name) for name, field in ServeSettings.model_fields.items())
"""The keys of a file, which may also be written with dashes."""


def read_settings(file: Path) -> ServeSettings:
    """What a file of settings says about a server. Raises `ConfigError`, which names the file and the key."""
    chosen = read_file(file)
    if unknown := sorted(chosen.keys() - set(OPTIONS)):
        raise ConfigError(
            f"{file} has the unknown key {unknown[0]!r}", hint=near_misses.hint(unknown[0], OPTIONS, "keys")
        )
    try:
        return ServeSettings.model_validate(chosen)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
