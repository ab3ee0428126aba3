"""Errors in the shape of the API whose route was asked."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response
from starlette.types import Scope

from rain_decoding.web.errors import ApiError

ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

NAMES: Mapping[str, Mapping[str, str]] = {
    "/v1/responses": {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "response_format": "text.format",
    },
    "/v1/systemone": {"messages": "state"},
    "/v1/decisions": {"messages": "input"},
}
"""What the fields of a chat are called elsewhere, by the ends of paths."""
ANTHROPIC = "/v1/messages/"
"""What the paths of that API begin with, but for the end; also those that are not there."""


def anthropic_body(error: ApiError, request_id: str | None = None) -> dict[str, object]:
    """As Anthropic's API says it."""
    kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    described = {"type": kind, "message": error.message}
    return {"type": "error", "error": described, "request_id": request_id}


def error_response(scope: Scope, error: ApiError) -> Response:
    """What a client is told, also where no route was found yet, and wherever the application is mounted."""
    path: str = scope["path"]
    if ANTHROPIC in f"{path}/":
        return error.response(anthropic_body(error, scope.get("state", {}).get("request_id")))
    names = next((names for end, names in NAMES.items() if path.endswith(end)), {})
    if error.param is not None and error.param in names:
        renamed = ApiError(error.status, error.message, param=names[error.param], code=error.code)
        return error.response(renamed.body)
    return error.response()
