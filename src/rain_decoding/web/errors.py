"""Errors as OpenAI's API shapes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rain_decoding.errors import (
    BackendError,
    CapacityError,
    ConfigError,
    ContextLengthError,
    CriterionError,
    EndpointTimeoutError,
    InputError,
    NumericalError,
    RainError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from fastapi import Response

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
RETRY_SECONDS = 1


class ApiError(Exception):
    """What a client is told: an HTTP status, a message, the field it is about, and a code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, object]:
        """The JSON object of the answer, in OpenAI's shape."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> Mapping[str, str]:
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        if self.status in (408, 413):
            return {"connection": "close"}  # the rest of the body is not wanted
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}

    def response(self, body: object = None) -> Response:
        """The answer; `body` is what stands in it in another API's shape."""
        return json_response(self.body if body is None else body, self.status, self.headers)


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in ASCII: a text may hold half a surrogate pair, or what some take for the end of a line."""
    from fastapi import Response

    return Response(json.dumps(content), status, headers=headers, media_type="application/json")


def unavailable(message: str, code: str) -> ApiError:
    """The request may succeed later."""
    return ApiError(503, message, code=code, retry_after=RETRY_SECONDS)


def shutting_down() -> ApiError:
    """Nothing more is taken."""
    return unavailable("the server is shutting down", "shutting_down")


def queue_full() -> ApiError:
    """There is no room for the request now."""
    return ApiError(429, "too many requests are waiting", code="queue_full", retry_after=RETRY_SECONDS)


def queue_timeout() -> ApiError:
    """A request's time was used up before its answer was begun."""
    return unavailable("the time limit was reached in the queue", "queue_timeout")


def late() -> ApiError:
    """The model did not answer in time."""
    message = "the model did not respond in time"
    return ApiError(504, message, code="upstream_timeout", retry_after=RETRY_SECONDS)


FIELDS = (
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "seed",
    "prompt",
)


def translated(error: Exception) -> ApiError:
    """What a client is told about an error of ours, or about one that nobody foresaw."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextLengthError):
        return ApiError(400, str(error), param="messages", code="context_length_exceeded")
    if isinstance(error, (InputError, UnsupportedError, CriterionError, ConfigError)):
        word = re.match(r"[a-z_]+", str(error))
        return ApiError(400, str(error), param=word[0] if word and word[0] in FIELDS else None)
    if isinstance(error, EndpointTimeoutError):
        return late()
    if isinstance(error, BackendError) and not isinstance(error, (CapacityError, NumericalError)):
        # What it says may name addresses that are no client's business.
        message, wait = (
            "the model failed; see the log for details",
            RETRY_SECONDS if error.retryable else None,
        )
        return ApiError(502, message, code="upstream_failed", retry_after=wait)
    if isinstance(error, RainError):
        return ApiError(500, str(error), code=type(error).__name__)
    return ApiError(500, "the server failed; see its log for details", code="internal_error")
