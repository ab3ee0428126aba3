"""Errors in the shape of the API whose route was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import Response
from starlette.types import Scope

from rain_decoding.web.errors import ApiError

Body = dict[str, object]

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

RESPONSES_NAMES = {"messages": "input", "max_tokens": "max_output_tokens", "response_format": "text.format"}
"""What fields of a chat are called in the Responses API."""


def anthropic_body(error: ApiError, request_id: str | None = None) -> Body:
    """As Anthropic's API says it."""
    kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": request_id,
    }


def responses_body(error: ApiError, request_id: str | None = None) -> Body:
    """As OpenAI's Responses API says it: the fields are called otherwise than in a chat."""
    param = RESPONSES_NAMES.get(error.param or "", error.param)
    return ApiError(error.status, error.message, param=param, code=error.code).body


SHAPES: Mapping[str, Callable[[ApiError, str | None], Body]] = {
    "/v1/messages": anthropic_body,
    "/v1/messages/count_tokens": anthropic_body,
    "/v1/responses": responses_body,
}
"""By the ends of paths, wherever the application is mounted. All others have the shape of OpenAI's chat."""


def error_response(scope: Scope, error: ApiError) -> Response:
    """What a client is told, also where no route was found yet."""
    shape = next((shape for path, shape in SHAPES.items() if scope["path"].endswith(path)), None)
    request_id = scope.get("state", {}).get("request_id")
    return error.response(None if shape is None else shape(error, request_id))
