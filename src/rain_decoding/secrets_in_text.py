"""Keys and passwords are taken out of every text that may be shown or kept."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

HIDDEN = "***"
NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)S?$", re.IGNORECASE)
"""How environment variables that hold a secret end."""
SHORTEST = 6
"""Characters of a secret that is looked for; shorter texts may stand anywhere."""
CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
"""In a URL."""

_told: set[str] = set()


def keep_secret(secret: str) -> None:
    """Show this text to nobody from now on."""
    if len(secret.strip()) >= SHORTEST:
        _told.add(secret.strip())


def without_secrets(text: str) -> str:
    """The text with what is secret hidden: keys that were read, values of variables of the environment whose names
    say so, and user names and passwords in URLs."""
    for secret in sorted({*_told, *_in_environment()}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return CREDENTIALS.sub(f"{HIDDEN}@", text)


def _in_environment() -> Iterable[str]:
    for name, value in os.environ.items():
        if NAMES.search(name) and len(value.strip()) >= SHORTEST:
            yield value.strip()
