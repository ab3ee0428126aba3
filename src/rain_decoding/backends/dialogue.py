"""The preamble of plain dialogue prompts, for models without a chat template."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def default_dialogue_header() -> str:
    """The built-in header for base models: a line that sets the scene and a few harmless turns."""
    return resources.files(__package__).joinpath("dialogue_header.txt").read_text(encoding="utf-8")


def header_or_default(header: str | None) -> str:
    """The header, or the built-in one for None. An empty one is none at all."""
    return default_dialogue_header() if header is None else header
