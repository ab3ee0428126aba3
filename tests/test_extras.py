"""What is said to install for an optional part."""

from __future__ import annotations

import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from rain_decoding import extras

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("extra", ["hf", "gguf", "endpoint", "serve", "sbert"])
def test_the_packages_themselves_are_named(extra: str) -> None:
    written = PROJECT["optional-dependencies"][extra]
    own = [package for package in written if not package.startswith("rain-decoding")]
    command = shlex.split(extras.install(extra))
    assert command[:2] == ["pip", "install"] and set(own) <= set(command[2:])
    assert not any("rain-decoding" in package for package in command)


def test_from_a_source_folder_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", missing)
    assert extras.install("serve") == 'pip install ".[serve]"'
