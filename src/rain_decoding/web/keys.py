"""API keys: every route of an application wants one, but for those that are marked public."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import Request

from rain_decoding.web.errors import ApiError

F = TypeVar("F", bound=Callable[..., Any])


def public(endpoint: F) -> F:
    """Mark what a route calls: it wants no key."""
    endpoint.public = True  # type: ignore[attr-defined]
    return endpoint


def is_public(endpoint: Any) -> bool:
    return getattr(endpoint, "public", False)


class KeyCheck:
    """A dependency for a whole application, so that no route can be forgotten, whatever its path or prefix.

    Without keys everybody may ask. `request.state.key` tells callers apart: a digest, "" without keys.
    """

    def __init__(self, keys: Iterable[str]):
        self.digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, request: Request) -> None:
        """Raises `ApiError` 401."""
        request.state.key = ""
        if not self.digests or is_public(request.scope["endpoint"]):
            return
        digest = hashlib.sha256(sent_key(request).encode("latin-1")).digest()  # as headers are decoded
        # All are compared, so that the time tells nothing.
        known = [hmac.compare_digest(digest, other) for other in self.digests]
        if not any(known):
            raise ApiError(401, "no valid API key was sent", code="invalid_api_key")
        request.state.key = digest.hex()


def sent_key(request: Request) -> str:
    """The key of a request: `Authorization: Bearer KEY` as OpenAI's clients send it, or `x-api-key` as Anthropic's."""
    if "authorization" not in request.headers:
        return request.headers.get("x-api-key", "").strip()
    scheme, _, key = request.headers["authorization"].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
