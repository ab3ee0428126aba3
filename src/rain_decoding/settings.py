"""Search settings written as text: NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from rain_decoding.config import SearchConfig
from rain_decoding.errors import ConfigError


def search_config(preset: str, settings: Iterable[str] | None = None) -> SearchConfig:
    """The preset with the changes given as NAME=VALUE. Raises `ConfigError` for what it cannot read."""
    base = SearchConfig.preset(preset)
    changes: dict[str, Any] = {}
    for setting in settings or []:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"the setting {setting!r} is not NAME=VALUE", hint="such as candidates=5")
        changes[name] = _parse(name, text, base)
    return base.with_changes(**changes)


def _parse(name: str, text: str, base: SearchConfig) -> Any:
    """Read a value of the type the option has."""
    kinds = {field.name: type(getattr(base, field.name)) for field in fields(base)}
    kind = kinds.get(name, str)
    try:
        if kind is bool:
            return {"true": True, "false": False, "on": True, "off": False}[text.lower()]
        if kind is tuple:
            return tuple(int(part) for part in text.split(","))
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{name} = {text!r} is not a {kind.__name__}") from error
