"""How to install what an optional part needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "rain-decoding"


def install(extra: str) -> str:
    """A command that installs the packages of an extra, wherever this one came from.

    Args:
        extra: One of the extras in `pyproject.toml`.

    Returns:
        A line for a shell.
    """
    try:
        needed = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # it runs from its source
        needed = []
    packages = [name for name, _, marker in (each.partition(";") for each in needed) if _of(marker, extra)]
    return "pip install " + " ".join(f'"{name.strip()}"' for name in packages or [f".[{extra}]"])


def _of(marker: str, extra: str) -> bool:
    return marker.replace('"', "'").strip().endswith(f"extra == '{extra}'")
