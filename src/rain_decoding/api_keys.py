"""API keys, checked where they are read."""

from __future__ import annotations

from rain_decoding.errors import ConfigError
from rain_decoding.secrets_in_text import keep_secret

QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb\u201e"


def checked_key(key: str, source: str) -> str:
    """An API key as it goes into a header, without the white space around it. `source` says where it is from.

    Raises `ConfigError`, which does not show it, for what no header may hold.
    """
    keep_secret(key)
    key = key.strip()
    hint = "set it again, without quotation marks and line ends"
    if key and {key[0], key[-1]} & {*QUOTES}:
        raise ConfigError(f"{source} stands between typographic quotation marks", hint=hint)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{source} contains a character that no API key has", hint=hint)
    return key
