"""Ranges that stand in the annotations of a dataclass's fields, and their check.

pydantic would do the same; importing it takes a third of the time that the package takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from rain_decoding.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Within:
    """Numbers from `low` to `high`, both included: `share: Annotated[float, Within(0, 1)]`."""

    low: float
    high: float


def check_ranges(config: Any) -> None:
    """Raise `ConfigError` for a field of a dataclass whose value is not what its annotation allows.

    Looked at are numbers `Within` a range, `Literal`, `bool` and `str`; an `int` may be written as 2.0.
    """
    for name, hint in _annotations(config.__class__).items():
        value = getattr(config, name)
        if get_origin(hint) is Annotated:
            kind, limits = get_args(hint)
            _check_number(name, value, kind, limits)
        elif hint is bool or get_origin(hint) is Literal:
            allowed = (True, False) if hint is bool else get_args(hint)
            if value not in allowed:
                names = ", ".join(map(str, allowed))
                raise ConfigError(f"{name} = {value!r} is unknown", hint=f"allowed: {names}")
        elif hint is str and not isinstance(value, str):
            raise ConfigError(f"{name} = {value!r}", hint="a string")


def _check_number(name: str, value: Any, kind: type, limits: Within) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not limits.low <= value <= limits.high:
        raise ConfigError(
            f"{name} = {value!r} is out of range", hint=f"allowed: {limits.low} to {limits.high}"
        )
    if kind is int and int(value) != value:
        raise ConfigError(f"{name} = {value!r} is not a whole number")


@cache
def _annotations(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
