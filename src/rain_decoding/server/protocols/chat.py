"""From the body of another API to the chat that it asks for."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from rain_decoding.server.schemas import ChatBody


def as_chat(**fields: Any) -> ChatBody:
    """The chat of these fields, None for those that are not there. Raises `RequestValidationError`."""
    try:
        return ChatBody.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


def tool(name: str, description: str | None, parameters: Any, strict: bool | None = None) -> dict[str, Any]:
    """A tool in the format of chats."""
    described = {"name": name, "description": description, "parameters": parameters, "strict": strict}
    return {
        "type": "function",
        "function": {key: what for key, what in described.items() if what is not None},
    }


def tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call in the format of chats."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
