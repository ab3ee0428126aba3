"""Each extra in an empty environment, from the wheel: its smallest use runs without the others.

Not part of the suite, since it installs: `make test-extras`, or `make test-extras EXTRAS="gguf serve"` for some.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from decoder_worlds import SCRIPT
from test_docs_blocks import EXTRAS

ROOT = Path(__file__).parents[2]
HEAVY = {"bench", "eval", "hf", "inspect", "lm-eval", "ray", "sbert"}
"""Those that bring torch or Ray: gigabytes, minutes."""
BASE = ""
"""No extra at all."""
DEMO = "from rain_decoding import RainDecoder; print(RainDecoder.from_model('demo').generate('Hi', max_tokens=4))"
SERVED = """
from rain_decoding import RainDecoder, load_backend
from rain_decoding.server.app import create_app
from rain_decoding.server.config import ServerConfig
assert create_app(RainDecoder(load_backend("scripted:model.toml"), "kind.toml"), ServerConfig()).routes
"""
USES = {
    BASE: """
from rain_decoding import MissingDependencyError, RainDecoder, load_backend
assert RainDecoder(load_backend("scripted:model.toml"), "kind.toml").generate("Hi").text
try:
    load_backend("demo")
except MissingDependencyError as error:
    assert '"torch>=' in error.hint
else:
    raise SystemExit("torch is here")
""",
    "hf": DEMO,
    "sbert": f"{DEMO}; import sentence_transformers",
    "bench": f"{DEMO}; from rain_decoding.measurement.plots import check_plot; import matplotlib",
    "eval": f"{DEMO}; from rain_decoding.evaluation.judges import JUDGES; assert [JUDGES[name] for name in JUDGES]",
    "gguf": "from rain_decoding.microworld.export import write_gguf; write_gguf('demo.gguf')\n"
    + DEMO.replace("'demo'", "'gguf:demo.gguf'"),
    "endpoint": """
from rain_decoding import EndpointError, load_backend
try:
    load_backend("openai:http://127.0.0.1:9/v1#model")
except EndpointError as error:
    assert "127.0.0.1:9" in str(error)
""",
    "serve": SERVED,
    "otel": SERVED + "from rain_decoding.server.telemetry import otlp_provider; otlp_provider().shutdown()",
    "inspect": f"{DEMO}; from inspect_ai.model import get_model; assert get_model('rain/demo')",
    "lm-eval": "from rain_decoding.integrations import lm_eval",
    "ray": "from rain_decoding.server.ray import app",
    "docs": "import mkdocs, material, mkdocstrings",
}
"""What runs in a folder with the scripted model of the tests."""

if os.environ.get("RAIN_INSTALL_TESTS") != "1":
    pytest.skip("installs packages: make test-extras", allow_module_level=True)


def chosen() -> list[str]:
    """Those that the variable EXTRAS names, else all."""
    named = os.environ.get("EXTRAS", "").split()
    return [extra for extra in USES if (extra or "base") in named] if named else list(USES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True
    )
    (file,) = folder.iterdir()
    return file


def test_every_extra_has_a_use() -> None:
    assert {*USES} - {BASE} == EXTRAS - {"dev"} and HEAVY < EXTRAS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", chosen(), ids=lambda extra: extra or "base")
def test_an_extra_is_enough(extra: str, wheel: Path, tmp_path: Path) -> None:
    for name, text in SCRIPT.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    python = tmp_path / "venv" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wanted]
    subprocess.run(install, check=True, env=clean)
    for command in ([python.parent / "rain", "--help"], [python, "-c", USES[extra]]):
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
