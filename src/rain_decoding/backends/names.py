"""From what a user writes for a model to a name of one of the forms in `BACKENDS`, and to what clients call it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from platformdirs import user_config_path

from rain_decoding import near_misses
from rain_decoding.errors import ConfigError, InputError, ModelNotFoundError
from rain_decoding.files import UNREADABLE, read_text

VARIABLE = "RAIN_MODEL"
"""Environment variable that names the model to take where none is named."""
GGUF = b"GGUF"
"""How such a file begins."""
HOST = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+|\[[0-9a-f:]+\]):\d+(/|#|$)", re.IGNORECASE)
"""A host with a port, in front of which nobody wrote http://."""


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of server that has a short form; `port` is the one it listens on unless told otherwise."""

    form: str
    port: int
    note: str

    @property
    def name(self) -> str:
        return self.form.partition(":")[0]


SERVERS = {
    server.name: server
    for server in (
        Server("ollama:NAME", 11434, "a model of the Ollama on this machine, or at OLLAMA_HOST"),
        Server("vllm:URL", 8000, "the model of a vLLM server; vllm alone: the one on this machine"),
        Server("sglang:URL", 30000, "the model of an SGLang server; sglang alone: the one on this machine"),
        Server("llama-server:URL", 8080, "the model of a llama-server; llama-server alone: this machine's"),
    )
}
BY_WHAT_IS_THERE = {
    "FILE.gguf": "a GGUF file",
    "FOLDER": "a folder as transformers saves models, or with one GGUF file",
    "http://HOST:PORT[/v1][#MODEL]": "a model behind an OpenAI-compatible server",
}
"""What is taken as a model by looking at it."""


def canonical(text: str, known: Collection[str]) -> str:
    """The name of a form in `BACKENDS` that a text stands for.

    Args:
        text: An alias, a file, a folder, a server's address, a short form, or such a name itself.
        known: The names of the forms, without what stands behind their colons.

    Returns:
        Such a name; a text of which nothing is known stays what it is.

    Raises:
        ModelNotFoundError: it looks like a file, a folder or a name on the hub, and is none that can be loaded.
        ConfigError: the file of aliases is broken.
    """
    kind, _, rest = text.partition(":")
    if kind in known or not text.strip():
        return text
    text = aliases().get(text, text)
    kind, _, rest = text.partition(":")
    if kind in SERVERS:
        return _at_server(SERVERS[kind], rest)
    if text.startswith(("http://", "https://")) or HOST.match(text):
        return f"openai:{base_url(text)}"
    forms = (*known, *SERVERS)
    if kind in known or (rest and near_misses.nearest(kind, forms)):  # the one that is meant is said later
        return text
    return _at_path(text)


def model_of_environment() -> str:
    """The model that the environment names. Raises `InputError` where it names none."""
    if model := os.environ.get(VARIABLE, "").strip():
        return model
    raise InputError(
        "no model is named", hint=f"name one, such as 'demo' or './model.gguf', or set {VARIABLE}"
    )


def _at_server(server: Server, rest: str) -> str:
    here = f"http://127.0.0.1:{server.port}"
    if server.name == "ollama":
        if not rest:
            raise ModelNotFoundError(
                "ollama: names no model", hint="use ollama:NAME, `ollama list` has the names"
            )
        return f"openai:{base_url(os.environ.get('OLLAMA_HOST', '') or here)}#{rest}"
    return f"openai:{base_url(rest or here)}"


def base_url(text: str) -> str:
    """The base URL of a server's API, `http://` and `/v1` filled in where they are missing; a `#MODEL` stays."""
    address, mark, model = text.partition("#")
    whole = address if "://" in address else f"http://{address}"
    if not urlsplit(whole).path.strip("/"):
        whole = whole.rstrip("/") + "/v1"
    return whole + mark + model


def _at_path(text: str) -> str:
    """A file or folder by what is in it."""
    try:
        path = Path(text).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError):  # no name that a file can have
        return text
    if is_file:
        return _of_file(path)
    if is_folder:
        return _of_folder(path)
    if path.suffix == ".gguf" or text.startswith(("/", "./", "../", "~")):
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = near_misses.nearest(path.name, [each.name for each in beside])
        raise ModelNotFoundError(
            f"there is no file or folder {text}",
            hint=f"did you mean {path.parent / near}?" if near else "check the path",
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise ModelNotFoundError(
            f"unknown model {text!r}", hint=f"did you mean 'hf:{text}', a model of the hub?"
        )
    return text


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(GGUF)) == GGUF:
                return f"gguf:{path}"
    except OSError as error:
        raise ModelNotFoundError(
            f"{path} cannot be read: {error.strerror}", hint="check its permissions"
        ) from error
    raise ModelNotFoundError(
        f"{path} is not a GGUF file", hint="use a .gguf file, or a folder as transformers saves models"
    )


def _of_folder(path: Path) -> str:
    if (path / "config.json").is_file():
        return f"hf:{path}"
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return f"gguf:{files[0]}"
    if files:
        raise ModelNotFoundError(f"{path} has several models", hint=f"name one: {', '.join(map(str, files))}")
    raise ModelNotFoundError(
        f"{path} contains no model",
        hint="use a folder with a config.json as transformers saves it, or a .gguf file",
    )


def public_name(backend_name: str) -> str:
    """What clients call a model: its name at its own server or on the hub, or that of its file or folder.

    Args:
        backend_name: `Backend.name`.

    Returns:
        A name without an address and without a path.
    """
    kind, _, rest = backend_name.partition(":")
    name = {"openai": rest.partition("#")[2], "scripted": rest}.get(kind) or backend_name
    path = PurePath(name)
    if path.suffix in (".gguf", ".toml"):
        return path.stem
    return path.name if path.is_absolute() or Path(name).exists() else name


def aliases() -> dict[str, str]:
    """Models by the short names that this user gave them. Raises `ConfigError` where their file is broken."""
    file = alias_file()
    try:
        found = json.loads(read_text(file)) if file.is_file() else {}
        if not isinstance(found, dict) or not all(isinstance(model, str) for model in found.values()):
            raise ValueError("it must have names of models by alias")
    except (*UNREADABLE, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="correct the file or remove it") from error
    return found


def add_alias(alias: str, model: str, known: Collection[str]) -> str:
    """Remember a model by a short name.

    Args:
        alias: The short name, of letters, digits, dots, dashes and underscores; one that is taken is given anew.
        model: What it stands for, as a user writes it.
        known: As for `canonical`.

    Returns:
        What is remembered, paths made absolute.

    Raises:
        InputError: the alias has another form, or names a form of models.
        ModelNotFoundError: as `canonical`, or the model's name has no known form.
    """
    if not re.fullmatch(r"[\w.-]+", alias) or alias in (*known, *SERVERS):
        raise InputError(
            f"{alias!r} cannot be a model's alias", hint="use letters, digits, dots, dashes and underscores"
        )
    kind, _, rest = canonical(model, known).partition(":")
    if kind not in known:
        forms = (*known, *SERVERS)
        raise ModelNotFoundError(f"unknown model {model!r}", hint=near_misses.hint(kind, forms, "models"))
    if kind in ("hf", "gguf", "scripted") and Path(rest).exists():
        rest = str(Path(rest).resolve())
    name = f"{kind}:{rest}" if rest else kind
    _write(aliases() | {alias: name})
    return name


def remove_alias(alias: str) -> None:
    """Forget a short name. Raises `InputError` where there is none such."""
    known = aliases()
    if alias not in known:
        raise InputError(f"there is no alias {alias!r}", hint=near_misses.hint(alias, known, "aliases"))
    del known[alias]
    _write(known)


def alias_file() -> Path:
    """Where the aliases are kept."""
    return user_config_path("rain-decoding") / "models.json"


def _write(names: dict[str, str]) -> None:
    file = alias_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(names, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
