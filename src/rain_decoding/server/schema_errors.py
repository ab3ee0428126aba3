"""What a client is told about a body that does not fit its schema: the field, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rain_decoding.server.protocols.decisions.body import DecisionsBody
from rain_decoding.server.protocols.decisions.systemone import SystemOneBody
from rain_decoding.server.protocols.messages.body import MessagesBody
from rain_decoding.server.protocols.responses.body import ResponsesBody
from rain_decoding.server.schemas import MAY_BE_LEFT_OUT, ROLES, ChatBody, CompletionBody
from rain_decoding.web.errors import ApiError

TYPES = ("str", "int", "float", "bool")
BODIES = (ChatBody, CompletionBody, MessagesBody, ResponsesBody, SystemOneBody, DecisionsBody)
FIELDS = {field for body in BODIES for field in body.model_fields}.union(MAY_BE_LEFT_OUT)
"""Of all bodies, and those that none has: what a message may begin with to say what it is about."""

WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field that this server knows",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
"""In place of pydantic's, by its kinds of errors."""


def told(error: Mapping[str, Any]) -> ApiError:
    """One of pydantic's errors as a 400."""
    field = _field(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    words = _words(kind, context)
    message = error["msg"].removeprefix("Value error, ") if words is None else words.format(**context)
    word = message.split(" ", 1)[0]
    named = field or (word if word in FIELDS else None)
    separator = ": " if words is None else " "
    return ApiError(
        400, f"{field}{separator}{message}" if field else message, param=named and _of_list(named)
    )


def _words(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind == "too_long" and context.get("field_type") == "Value":
        kind = "string_too_long"  # checked before it is known to be a text
    if kind == "too_short" and context["min_length"] == 1:
        kind = "string_too_short"
    return WORDS.get(kind)


def _of_list(field: str) -> str:
    """The list, where a field is one of its entries."""
    return field.rstrip("0123456789").removesuffix(".") if field[-1].isdigit() and "." in field else field


def _field(place: Sequence[str | int]) -> str:
    """The field that an error is about, without what names a choice of the schema: types, and roles of messages."""
    return ".".join(
        str(part)
        for before, part in zip(("", *place), place, strict=False)
        if isinstance(part, int)
        or (part.isidentifier() and part not in TYPES and not (isinstance(before, int) and part in ROLES))
    )
