"""What is installed is what is here: the wheel holds every file of the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rain_decoding"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The project's wheel, built as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return zipfile.Path(file)


def files(folder: zipfile.Path | Path) -> set[str]:
    """The files below a folder, by their paths within it."""
    found = set()
    for path in folder.iterdir():
        if path.is_dir():
            found |= {f"{path.name}/{name}" for name in files(path) if path.name != "__pycache__"}
        else:
            found.add(path.name)
    return found


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.Path) -> None:
    here, packed = files(PACKAGE), files(wheel / "rain_decoding")
    assert packed == here
    kinds = {name.rpartition(".")[2] for name in packed}
    assert kinds >= {"py", "toml", "safetensors", "html", "js", "css"}
    (metadata,) = [folder for folder in wheel.iterdir() if folder.name.endswith(".dist-info")]
    sections = ConfigParser()
    sections.read_string((metadata / "entry_points.txt").read_text())
    assert {name: dict(sections[name]) for name in sections.sections()} == {
        "console_scripts": {"rain": "rain_decoding.cli:main"},
        "inspect_ai": {"rain": "rain_decoding.integrations.inspect"},
    }
    assert (metadata / "licenses" / "LICENSE").exists()
