"""What is installed is what is here: the wheel holds every file of the package, and its types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rain_decoding"
LARGEST = 15 * 2**20
"""Bytes that the wheel may have."""


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.Path:
    return zipfile.Path(wheel_file)


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


def test_the_wheel_is_small(wheel_file: Path) -> None:
    assert wheel_file.stat().st_size < LARGEST


def test_a_strict_type_checker_knows_the_installed_package(wheel_file: Path, tmp_path: Path) -> None:
    """In an environment with nothing else in it; numpy's types are not looked at."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel_file).extractall(packages)
    consumer = shutil.copy(ROOT / "tests" / "typed_consumer.py", tmp_path)
    options = ["--strict", "--config-file=", "--cache-dir=cache", "--python-executable=venv/bin/python"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, consumer],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
