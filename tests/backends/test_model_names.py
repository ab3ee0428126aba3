"""What may be written for a model, and what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from rain_decoding.backends import BACKENDS, find_model
from rain_decoding.backends.names import add_alias, aliases, base_url, public_name, remove_alias
from rain_decoding.errors import ConfigError, InputError, ModelNotFoundError


def found(text: str) -> str:
    """The name of a form that a text stands for."""
    entry, rest = find_model(text)
    return f"{entry.name}:{rest}" if rest else entry.name


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF\x03\x00")
    return file


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("demo", "demo"),
        ("hf:org/model", "hf:org/model"),
        ("ollama:qwen2.5:0.5b", "openai:http://127.0.0.1:11434/v1#qwen2.5:0.5b"),
        ("vllm", "openai:http://127.0.0.1:8000/v1"),
        ("vllm:gpu-box:9000#org/model", "openai:http://gpu-box:9000/v1#org/model"),
        ("sglang:https://there.example/serve/v1", "openai:https://there.example/serve/v1"),
        ("llama-server:http://127.0.0.1:8080/", "openai:http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080", "openai:http://127.0.0.1:8080/v1"),
        ("localhost:8080#m", "openai:http://localhost:8080/v1#m"),
        ("[::1]:8080", "openai:http://[::1]:8080/v1"),
    ],
)
def test_servers(text: str, name: str) -> None:
    assert found(text) == name


def test_ollama_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "box:11434")
    assert found("ollama:m") == "openai:http://box:11434/v1#m"


def test_a_base_url_is_completed_once() -> None:
    assert base_url(base_url("box:1#m")) == base_url("box:1#m") == "http://box:1/v1#m"


def test_files_and_folders_are_what_is_in_them(tmp_path: Path, gguf: Path) -> None:
    assert found("tiny.gguf") == "gguf:tiny.gguf"
    assert found(str(gguf)) == f"gguf:{gguf}"
    assert found(str(gguf.rename(tmp_path / "weights"))) == f"gguf:{tmp_path / 'weights'}"
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match="contains no model"):
        found("./saved")
    (folder / "one.gguf").write_bytes(b"GGUF")
    assert found("saved") == "gguf:saved/one.gguf"
    (folder / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match="one.gguf, .*two.gguf"):
        found("saved")
    (folder / "config.json").write_text("{}")
    assert found("saved") == "hf:saved"


def test_a_folder_does_not_hide_a_name(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert found("demo") == "demo"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tny.gguf", "did you mean tiny.gguf"),
        ("./nothing", "there is no file or folder ./nothing"),
        ("org/model", "did you mean 'hf:org/model'"),
        ("dmo", "did you mean demo"),
        ("ggf:tiny.gguf", "did you mean gguf:FILE"),
        ("ollamma:x", r"did you mean ollama:NAME\? forms: .*llama-server:URL"),
        ("vlm:./box.gguf", "did you mean vllm:URL"),
        ("lama-server", "did you mean llama-server:URL"),
        ("notes.txt", "notes.txt is not a GGUF file"),
        ("ollama:", "names no model"),
    ],
)
def test_near_misses(gguf: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(ModelNotFoundError, match=said):
        found(text)


def test_an_alias_stands_for_the_file_from_any_folder(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert add_alias("my", "tiny.gguf", BACKENDS) == f"gguf:{gguf}"
    add_alias("near", "localhost:8080#m", BACKENDS)
    monkeypatch.chdir("/")
    assert found("my") == f"gguf:{gguf}"
    assert found("near") == "openai:http://localhost:8080/v1#m"
    with pytest.raises(InputError, match="did you mean 'my'"):
        remove_alias("myy")
    remove_alias("my")
    assert set(aliases()) == {"near"}
    with pytest.raises(ModelNotFoundError, match="unknown model"):
        found("my")


def test_an_alias_does_not_replace_a_form_and_stands_for_a_model(tmp_path: Path) -> None:
    for name in ("demo", "hf", "vllm", "a b", "a:b", ""):
        with pytest.raises(InputError, match="alias"):
            add_alias(name, "demo", BACKENDS)
    with pytest.raises(ModelNotFoundError, match="unknown model"):
        add_alias("my", "nothing", BACKENDS)
    with pytest.raises(ModelNotFoundError, match="did you mean 'ollama'"):
        add_alias("my", "ollamma:x", BACKENDS)


def test_a_broken_file_of_aliases_is_named(tmp_path: Path) -> None:
    add_alias("my", "demo", BACKENDS)
    (file,) = tmp_path.rglob("models.json")
    file.write_text('{"my": 3}')
    with pytest.raises(ConfigError, match="models.json cannot be read"):
        found("my")


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("demo", "demo"),
        ("openai:http://box:8080/v1#org/model", "org/model"),
        ("openai:http://box:8080/v1#/models/tiny.gguf", "tiny"),
        ("tiny.gguf", "tiny"),
        ("/models/saved", "saved"),
        ("org/model", "org/model"),
    ],
)
def test_clients_see_neither_addresses_nor_paths(backend: str, name: str) -> None:
    assert public_name(backend) == name
