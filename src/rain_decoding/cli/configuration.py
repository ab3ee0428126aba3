"""Where a command's options come from: the command line, else the environment, else `rain.toml`, else the default."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import typer
from typer.core import TyperCommand, TyperOption

from rain_decoding import near_misses
from rain_decoding.backends import find_model, read_options
from rain_decoding.config import DEFAULT_PRESET, FALLBACKS, SearchConfig, search_config
from rain_decoding.errors import ConfigError, RainError
from rain_decoding.prompting import PromptFormat
from rain_decoding.settings_file import as_text, find_file, read_file

PREFIX = "RAIN_"
"""What begins the environment variable of a key: RAIN_MODEL."""
EITHER = ("criterion", "principle")
"""Who sets one of these means it instead of the other."""
UNLIMITED = "max_seconds"
"""0 stands for no limit, since TOML has no null."""
OF_ONE_RUN = ("config", "help", "json", "trace", "stop")
"""What is not set once for all."""
ALLOWED: dict[str, tuple[str, ...]] = {"fallback": FALLBACKS, "format": get_args(PromptFormat)}


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was set."""

    value: Any
    source: str


def key_of(option: TyperOption) -> str:
    """How an option is called in a file."""
    return option.opts[0].removeprefix("--").replace("-", "_")


def options_of(command: Any) -> list[TyperOption]:
    return [option for option in command.params if isinstance(option, TyperOption)]


def given(context: typer.Context, file: Path | None) -> dict[str, Given]:
    """What the file and the environment say, by key; the environment wins.

    Args:
        context: Of any command.
        file: As named on the command line, if one is.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or a value that the key cannot have.
    """
    known = known_keys(context.find_root().command)
    found: dict[str, Given] = {}
    if path := find_file(file):
        for key, value in read_file(path).items():
            if key not in known:
                raise ConfigError(
                    f"{path} has the unknown key {key!r}", hint=near_misses.hint(key, known, "keys")
                )
            found[key] = Given(value, str(path))
    for key in known:
        variable = PREFIX + key.upper()
        if text := os.environ.get(variable, ""):
            for other in EITHER if key in EITHER else ():
                found.pop(other, None)
            found[key] = Given(text, variable)
    for key, one in found.items():
        _check_type(context, known[key], one)
        _check(key, one, found)
    return found


def _check_type(context: typer.Context, option: TyperOption, one: Given) -> None:
    """As the command line does when it reads the option."""
    try:
        option.process_value(context, _as_written(option, one.value))
    except (typer.BadParameter, ValueError) as error:
        said = error.message if isinstance(error, typer.BadParameter) else error
        raise ConfigError(f"{one.source}: {key_of(option)} = {one.value!r}: {said}") from error


def _as_written(option: TyperOption, value: Any) -> str | list[str]:
    """A value as the command line would have it for an option. Raises `ValueError` for an open quote."""
    return as_list(value) if option.type_descriptor.is_list else as_text(value)


def _check(key: str, one: Given, found: Mapping[str, Given]) -> None:
    """Find out now what would be found out later, by an error that does not say where the value stands."""
    try:
        match key:
            case "model":
                find_model(as_text(one.value))
            case "preset":
                SearchConfig.preset(as_text(one.value))
            case "set":
                search_config(DEFAULT_PRESET, as_list(one.value))
            case "engine_option" if "model" in found:
                read_options(as_text(found["model"].value), as_list(one.value))
            case "fallback" | "format":
                _need_one_of(as_text(one.value), ALLOWED[key])
    except RainError as error:
        raise ConfigError(f"{one.source}: {key}: {error}") from error


def _need_one_of(value: str, names: Collection[str]) -> None:
    if value not in names:
        raise ConfigError(f"unknown {value!r}", hint=near_misses.hint(value, names, "use one of"))


def as_list(value: Any) -> list[str]:
    """Of an option that may be repeated, what it is given: a list, or a text with spaces between its parts."""
    if isinstance(value, str):
        return shlex.split(value)
    return [as_text(each) for each in value] if isinstance(value, list) else [as_text(value)]


def located(context: typer.Context, error: ConfigError) -> ConfigError:
    """The error, with the places in front where the values that it names were set, if not on the command line."""
    places = {one.source for key, one in (context.obj or {}).items() if f"{key} = " in str(error)}
    return ConfigError(f"{', '.join(sorted(places))}: {error}") if places else error


class Command(TyperCommand):
    """A command whose options that are left out are as the environment or the file of settings says.

    What is set somewhere, by key, is the context's `obj`.
    """

    keys: ClassVar[frozenset[str] | None] = None
    """The keys that it takes; None: all of its options'."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parser = self.make_parser(ctx)
        written, _, _ = parser.parse_args(args=list(args))
        if not ctx.resilient_parsing and "help" not in written:
            file = written.get("config")
            ctx.obj = given(ctx, Path(file) if file else None)
            ctx.default_map = dict(self._defaults(ctx.obj, written))
        return super().parse_args(ctx, args)

    def _defaults(self, found: Mapping[str, Given], written: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """What options have unless the command line says it, by their names in Python."""
        chosen = any(option.name in written for option in options_of(self) if key_of(option) in EITHER)
        for option in options_of(self):
            key = key_of(option)
            if key not in found or (self.keys is not None and key not in self.keys):
                continue
            value = found[key].value
            if chosen and key in EITHER:
                continue
            if key == UNLIMITED and not option.default and float(value) == 0:
                continue
            yield str(option.name), _as_written(option, value)


class ModelCommand(Command):
    """A command that takes only what says which model it is, and how it is loaded."""

    keys = frozenset({"model", "criterion", "principle", "format", "device", "dtype", "engine_option"})


def known_keys(root: Any) -> dict[str, TyperOption]:
    """All that may be set, by key: the options of the commands that take everything."""
    commands = getattr(root, "commands", {"": root}).values()
    return {
        key_of(option): option
        for command in commands
        if isinstance(command, Command) and command.keys is None
        for option in options_of(command)
        if key_of(option) not in OF_ONE_RUN
    }
