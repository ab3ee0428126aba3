"""`rain.toml`: the settings of a user or a server, in one file for all commands."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rain_decoding.errors import ConfigError
from rain_decoding.files import UNREADABLE, read_text

NAME = "rain.toml"
"""What the file in the working folder is called."""
VARIABLE = "RAIN_CONFIG"
"""Environment variable that names another one."""
GROUPS = ("server", "limits")
"""Tables whose keys may as well stand outside of them."""
TABLES = {"set": "set", "engine": "engine_option"}
"""Tables of NAME = VALUE, and the options that take such settings one by one."""


def find_file(named: Path | None = None) -> Path | None:
    """The file of settings: the one that is named, or that of the environment, or the working folder's.

    Returns:
        None where there is none.
    """
    if named is not None:
        return named
    if variable := os.environ.get(VARIABLE, "").strip():
        return Path(variable).expanduser()
    return here if (here := Path(NAME)).is_file() else None


def read_file(file: Path) -> dict[str, Any]:
    """What a file of settings says.

    Args:
        file: TOML; keys are the options' names, with dashes or underscores. They may stand in the tables `GROUPS`, and
            what an option takes as NAME=VALUE in the tables `TABLES`.

    Returns:
        Values by the options' names, with underscores.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or says something twice.
    """
    try:
        table = tomllib.loads(read_text(file))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}",
            hint=f"name another file by --config or {VARIABLE}, or unset that",
        ) from error
    except (*UNREADABLE, ValueError) as error:
        raise ConfigError(
            f"{file}: {error}", hint="use a TOML file with lines such as port = 9000"
        ) from error
    found: dict[str, Any] = {}
    for key, value in _flat(table, file):
        if key in found:
            raise ConfigError(f"{file}: {key} is set twice", hint="keep one of them")
        found[key] = value
    return found


def _flat(table: Mapping[str, Any], file: Path) -> list[tuple[str, Any]]:
    found = []
    for written, value in table.items():
        key = written.replace("-", "_")
        if isinstance(value, Mapping) and key in GROUPS:
            found += _flat(value, file)
        elif isinstance(value, Mapping) and key in TABLES:
            found.append((TABLES[key], [f"{name}={as_text(each)}" for name, each in value.items()]))
        elif isinstance(value, Mapping):
            raise ConfigError(
                f"{file}: there is no table [{written}]", hint=f"tables: {', '.join((*GROUPS, *TABLES))}"
            )
        else:
            found.append((key, value))
    return found


def as_text(value: Any) -> str:
    """A value of TOML as it is written on a command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(as_text, value)) if isinstance(value, list) else str(value)
