"""Whom a server listens to: requests by a name that is its own, and of browsers those of its own pages.

Without this, listening on the loopback protects nothing: any page that a browser shows may send requests there, and by
a name of its own that it lets point to the loopback (DNS rebinding) it may read the answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rain_decoding.web.errors import ApiError

HEAD_BYTES = 32 * 1024
"""What a request's line and headers may hold together."""

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""

AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
"""Name or address, and perhaps a port, in lower case."""
PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Hosts:
    """Names that a request's Host header may bear: those of the loopback, the one it listens on, and `named`.

    A name of `named` may be `*` for any, or `*.example.org` for those below it. Where a server listens on more than the
    loopback any IP address will do: nobody can let an address point elsewhere.
    """

    listening: str
    named: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether the name, without a port, may stand in a Host header."""
        return (
            is_loopback(name)
            or self.names(name)
            or (not is_loopback(self.listening) and (name == self.listening.lower() or _is_address(name)))
        )

    def names(self, name: str) -> bool:
        """Whether it is one of `named`."""
        return any(
            one in ("*", name) or (one.startswith("*.") and name.endswith(one[1:]))
            for one in map(str.lower, self.named)
        )


def is_loopback(name: str) -> bool:
    """Whether nobody but this machine has a host of that name."""
    return name == "localhost" or (_is_address(name) and ip_address(name.strip("[]")).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def in_our_shape(scope: Scope, error: ApiError) -> ASGIApp:
    """The answer to a request that is refused."""
    return error.response()


class Guard:
    """Refuses requests under other names, changes that pages of other sites ask for, and large heads."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts | None = None,
        origins: Collection[str] = (),
        told: Callable[[Scope, ApiError], ASGIApp] = in_our_shape,
    ):
        """`hosts`: None takes any. `origins` are further ones (`https://example.org`) whose pages may ask; `*`: all."""
        self.app, self.hosts, self.told = app, hosts, told
        self.origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await self.told(scope, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        lines = [scope.get("raw_path") or b"", scope.get("query_string") or b""]
        if (
            sum(map(len, lines)) + sum(len(name) + len(value) for name, value in scope["headers"])
            > HEAD_BYTES
        ):
            raise ApiError(
                431,
                f"the request's line and headers are larger than {HEAD_BYTES} bytes",
                code="head_too_large",
            )
        headers = Headers(scope=scope)
        sent = [value.strip().lower() for value in headers.getlist("host")]
        host = AUTHORITY.fullmatch(sent[0]) if len(sent) == 1 else None
        if self.hosts is not None and not (host and self.hosts.allows(host[1].rstrip("."))):
            raise ApiError(
                403,
                f"this server is not called {', '.join(sent)[:100]!r}; the operator allows names by --allowed-host",
                code="host_not_allowed",
            )
        if scope["method"] not in SAFE and not self._is_own(headers, host):
            raise ApiError(
                403,
                "pages of other sites may not use this server; the operator allows one by --cors-origin",
                code="origin_not_allowed",
            )

    def _is_own(self, headers: Headers, host: re.Match[str] | None) -> bool:
        """Whether no browser sent the request, or one that shows a page of this server or of `origins`."""
        if "origin" not in headers:
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        origin = headers["origin"].lower()
        if "*" in self.origins or origin in self.origins:
            return True
        scheme, separator, authority = origin.partition("://")
        page = AUTHORITY.fullmatch(authority)
        if not (separator and page and scheme in PORTS):
            return False
        if self.hosts is not None and self.hosts.names(page[1]):
            return True  # behind a proxy the Host may be another name of this server
        port = PORTS[scheme]
        return host is not None and (page[1], page[2] or port) == (host[1], host[2] or port)
