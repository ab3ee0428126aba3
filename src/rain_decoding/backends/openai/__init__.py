"""Models behind an OpenAI-compatible server: vLLM, SGLang, llama-server, TGI, and others with what they can do.

`probe` finds out what that is. Text goes over the wire, not token ids: `codec` makes tokens of its pieces. `streams`
gives one streamed reply to one `Decode` after the other, `labels` and `proposals` answer the other requests, `client`
sends them.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from rain_decoding.errors import ConfigError, MissingDependencyError, UnsupportedError
from rain_decoding.extras import install

if TYPE_CHECKING:
    from rain_decoding.backends.openai.backend import EndpointBackend
    from rain_decoding.backends.openai.facts import Facts


def load(name: str, **options: Any) -> EndpointBackend:
    """Connect to a model behind an OpenAI-compatible server.

    Args:
        name: `BASE_URL[,BASE_URL...][#MODEL]`.
        options: See `loading.load`.

    Returns:
        The backend.

    Raises:
        MissingDependencyError: the HTTP packages are not installed.
        UnsupportedError: `keep_hidden` was asked for, which no endpoint has.
        RainError: as `loading.load`.
    """
    _need_packages()
    from rain_decoding.backends.openai import loading

    if options.pop("keep_hidden", False):
        raise UnsupportedError("endpoints do not provide hidden states", hint="use embedding='hashing'")
    known = list(signature(loading.load).parameters)[1:]
    if unknown := options.keys() - known:
        raise ConfigError(
            f"an endpoint does not accept the option {', '.join(sorted(unknown))}",
            hint=f"options: {', '.join(known)}",
        )
    return loading.load(name, **options)


def probe_endpoint(name: str) -> Facts:
    """What the endpoint `BASE_URL[#MODEL]` can do. Raises `MissingDependencyError`, and as `load`."""
    _need_packages()
    from rain_decoding.backends.openai import loading

    return loading.ask(name)


def _need_packages() -> None:
    """Raise `MissingDependencyError` unless what endpoints need is installed."""
    try:
        import httpx2  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"endpoints need {error.name}", hint=install("endpoint")) from error


__all__ = ["load", "probe_endpoint"]
