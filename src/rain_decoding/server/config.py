"""`ServerConfig`: what the operator decides. Nothing of it changes while the server runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from rain_decoding.errors import ConfigError

PERMISSIONS = ("criterion", "principle", "preset", "threshold", "budget", "plain", "trace")
"""What `client_may` can allow. Everything else is the operator's alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Limits and permissions of a server. Raises `ConfigError` for a value out of its range."""

    served_name: str = ""
    """The model's name for clients; empty: the backend's."""
    api_keys: tuple[str, ...] = ()
    """Keys of which a request must bear one; none: whoever reaches the port may ask."""
    client_may: frozenset[str] = frozenset()
    """What of `PERMISSIONS` a request may decide."""
    max_concurrent: int = 16
    """Answers searched at the same time, >= 1. A request for `n` answers counts n times."""
    max_queue: int = 64
    """Answers that may wait behind them, >= 0; beyond, 429."""
    max_choices: int = 8
    """Answers of one request (`n` times its prompts), >= 1; never more than there is room for."""
    max_tokens: int | None = None
    """Ceiling of a request's `max_tokens`, and its default."""
    max_seconds: float | None = 300.0
    """A request's time from its arrival on, > 0; the best text so far is the answer then."""
    max_search_tokens: int | None = None
    """Tokens forwarded for one answer, >= 1."""
    max_body_bytes: int = 2**20
    max_prompt_bytes: int = 2**18
    """Text of all messages, as UTF-8."""
    max_prompt_tokens: int | None = None
    """Tokens of a prompt; None: what the context holds."""
    body_seconds: float = 30.0
    """Time in which a request's body must have arrived, > 0."""
    keep_alive_seconds: float = 10.0
    """A stream that is silent for so long sends a comment, > 0."""
    stuck_seconds: float = 120.0
    """A step of the backend that takes longer fails all requests and `/readyz`, > 0."""
    grace_seconds: float = 30.0
    """Time that running answers have to finish at shutdown, >= 0."""
    cors_origins: tuple[str, ...] = ()
    log_prompts: bool = False
    playground: bool = True

    def __post_init__(self) -> None:
        if unknown := set(self.client_may) - set(PERMISSIONS):
            raise ConfigError(
                f"client_may names {', '.join(sorted(unknown))}", hint=f"allowed: {', '.join(PERMISSIONS)}"
            )
        least = {"max_queue": 0, "grace_seconds": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            low = least.get(field.name, 1 if isinstance(value, int) else 1e-3)
            if value < low:
                raise ConfigError(f"{field.name} = {value!r}", hint=f"at least {low}")

    @property
    def room(self) -> int:
        """Answers that may run and wait."""
        return self.max_concurrent + self.max_queue


def read_api_keys(path: Path) -> tuple[str, ...]:
    """One key a line; empty lines and lines that begin with # do not count. Raises `ConfigError` for none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the API keys cannot be read: {error}", hint="a text file, one key a line"
        ) from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError(f"{path} holds no API key", hint="one key a line")
    return keys
