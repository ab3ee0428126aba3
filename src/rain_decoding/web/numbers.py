"""Numbers as people mean them: not what pydantic would make of a text or of a truth value."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _a_number(value: Any) -> Any:
    if isinstance(value, (bool, str, bytes)):
        raise ValueError("must be a number")
    return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_a_number)]
Whole = Annotated[int, BeforeValidator(_a_number)]
