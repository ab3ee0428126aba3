"""What a run was made with: versions, revisions, hashes."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rain_decoding.version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "cyllama")
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.toml")


def environment() -> dict[str, Any]:
    """Machine and packages. Answers should not depend on them beyond float noise."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def code() -> dict[str, Any]:
    """The version of this package and, in a checkout, its git revision."""
    return {"rain-decoding": __version__, "git_revision": _git_revision()}


def model_facts(model: str, revision: str | None = None) -> dict[str, Any]:
    """A model's name, and the hash of its weights where they are local files."""
    kind, _, rest = model.partition(":")
    if kind == "demo":
        from rain_decoding.demo import MODEL_DIR

        rest = str(MODEL_DIR)
    path = Path(rest)
    return {"name": model, "revision": revision, "sha256": weights_hash(path) if path.exists() else None}


@cache
def weights_hash(path: Path) -> str:
    """SHA-256 over a file, or over names and contents of a folder's weights; read once, since they may be large."""
    if path.is_file():
        return file_hash(path)
    files = sorted(file for pattern in WEIGHTS for file in path.glob(pattern))
    lines = "".join(f"{file_hash(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The checked-out commit of this package's source, "-dirty" with changes; None outside a checkout of it."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
