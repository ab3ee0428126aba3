"""Proxies as the environment names them: left alone where they do not count, named where they fail."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rain_decoding.errors import ConfigError, MissingDependencyError
from rain_decoding.secrets_in_text import without_secrets

Client = TypeVar("Client")


def proxy_for(url: str) -> str:
    """The proxy by which a URL is asked for, without its password; "" for none."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    proxies = urllib.request.getproxies()
    return without_secrets(proxies.get(parts.scheme) or proxies.get("all") or "")


def http_client(make: Callable[..., Client], urls: Iterable[str], **options: Any) -> Client:
    """A client of httpx that asks these URLs; it hears of proxies only if one of the URLs is asked for by one.

    Raises `MissingDependencyError` for a kind of proxy that needs another package, `ConfigError` for no proxy.
    """
    asked = [proxy for url in urls if (proxy := proxy_for(url))]
    try:
        return make(trust_env=bool(asked), **options)
    except ImportError as error:
        raise MissingDependencyError(
            f"the proxy {asked[0] if asked else ''} needs a package that is not installed: {error}",
            hint="pip install socksio, or name the server's host in NO_PROXY",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the proxy {asked[0] if asked else ''} cannot be used: {error}",
            hint="correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or name the server's host in NO_PROXY",
        ) from error
