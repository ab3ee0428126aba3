"""Loading models and tokenizers from the Hugging Face hub or a folder, with their errors translated."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
import transformers

from rain_decoding.backends.fingerprint import of_parts
from rain_decoding.backends.local import TINY, LocalBackend, criteria_of
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.backends.transformers.probe import ENGINES, choose_engine
from rain_decoding.errors import BackendError, ConfigError, MissingDependencyError, ModelNotFoundError

CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "n_ctx",
    "seq_length",
)
SAMPLED = 16
"""Numbers of a parameter that a fingerprint looks at."""
PROMPT_TOKEN_COST = 0.05
"""Of float32 on a CPU, where reading the weights is the bound: 0.04 to 0.05 on 135M parameters."""
DEFAULT_CONTEXT = 4096
"""For models that name no limit (recurrent ones, mostly)."""


def load(
    name: str,
    *,
    display_name: str | None = None,
    criteria_dirs: Iterable[Path] = (),
    trust_model_criteria: bool = False,
    dialogue_header: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    eos_token: str | None = None,
    max_kv_slots: int | None = None,
    prefix_cache_slots: int = 8192,
    keep_hidden: bool = False,
    engine: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization_config: Any = None,
    model_kwargs: dict[str, Any] | None = None,
) -> LocalBackend:
    """Load a causal language model on transformers.

    Args:
        name: A folder that `save_pretrained` wrote, or OWNER/NAME of the Hugging Face hub.
        display_name: What the backend is called; None: `name`.
        criteria_dirs: Folders of criteria that come with the model, before its own folder's.
        trust_model_criteria: Let criteria in the model's own folder replace those of this package.
        dialogue_header: Text before the turns of the format `dialogue`; None: the built-in one.
        device: "cpu", "cuda", "cuda:1", "mps", ...; None: a GPU if there is one, else the CPU.
        dtype: "auto", "float32", "float16" or "bfloat16"; None: the model's own on a GPU, float32 on a CPU.
        attn_implementation: "sdpa" or "eager"; None: sdpa where the model has it.
        eos_token: Exact text of another token that ends a sequence; None: only those that the model names.
        max_kv_slots: Tokens whose keys and values are held at once, > 0; None: no limit.
        prefix_cache_slots: Of these, tokens of finished requests, >= 0; 0 keeps none.
        keep_hidden: Keep the last layer's hidden states, which the embedding `hidden` reads.
        engine: "auto" probes what the model supports; "trie", "rows" or "none" set one (see `probe`).
        revision: Branch, tag or commit on the hub; None: its default.
        trust_remote_code: Run code that comes with the model.
        quantization_config: Passed to `from_pretrained`; None: not quantized.
        model_kwargs: Further arguments of `from_pretrained`.

    Returns:
        The backend, its model in evaluation mode.

    Raises:
        ModelNotFoundError: there is no such folder or repository, or it contains no language model.
        ConfigError: an option has an invalid value.
        NumericalError: the model returns NaN in a plain forward.
        MissingDependencyError: the model needs a package that is not installed.
        BackendError: loading failed.
    """
    _check_options(engine, max_kv_slots, prefix_cache_slots)
    options: dict[str, Any] = dict(model_kwargs or {})
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if quantization_config is not None:
        # Quantized weights cannot be moved afterwards.
        options = {
            "device_map": {"": parse_device(device)},
            **options,
            "quantization_config": quantization_config,
        }
    folder = _local_folder(name)
    model, tokenizer = pretrained(
        name,
        transformers.AutoModelForCausalLM,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        options=options,
    )
    own = criteria_of(folder, trusted=trust_model_criteria) if folder else []
    return wrap(
        model,
        tokenizer,
        name=display_name or name,
        criteria_dirs=[*criteria_dirs, *own],
        dialogue_header=dialogue_header,
        eos_token=eos_token,
        max_kv_slots=max_kv_slots,
        prefix_cache_slots=prefix_cache_slots,
        keep_hidden=keep_hidden,
        engine=engine,
    )


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or a repository. Raises as `load` does."""
    folder = _local_folder(name)
    with _translated(name):
        return transformers.AutoTokenizer.from_pretrained(str(folder or name), **_offline(folder))


def pretrained(
    name: str,
    kind: Any,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """The model of this `kind` (an auto class of transformers) and its tokenizer, on its device.

    `options` go to the model's `from_pretrained`. Raises what `load` does.
    """
    place = parse_device(device)
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    folder = _local_folder(name)
    source |= _offline(folder)
    found = str(folder or name)
    chosen = {"dtype": parse_dtype(dtype, place), **(options or {})}
    with _translated(name), _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(found, **source)
        model = kind.from_pretrained(found, **source, **chosen)
        if "device_map" not in chosen:
            model.to(place)
    return model, tokenizer


def wrap(
    model: Any,
    tokenizer: Any,
    *,
    name: str | None = None,
    criteria_dirs: Iterable[Path] = (),
    dialogue_header: str | None = None,
    eos_token: str | None = None,
    max_kv_slots: int | None = None,
    prefix_cache_slots: int = 8192,
    keep_hidden: bool = False,
    engine: str = "auto",
) -> LocalBackend:
    """Make a backend of a model and a tokenizer that are already loaded.

    Args:
        model: A causal language model of transformers. It is put into evaluation mode and otherwise left as it is.
        tokenizer: Its tokenizer.
        name: What the backend is called; None: the model's `name_or_path`, else its class.
        criteria_dirs: Folders of criteria that come with the model.
        dialogue_header: See `load`, as for the options that follow.
        eos_token: Exact text of another token that ends a sequence.
        max_kv_slots: Tokens whose keys and values are held at once, > 0; None: no limit.
        prefix_cache_slots: Of these, tokens of finished requests, >= 0.
        keep_hidden: Keep the last layer's hidden states.
        engine: "auto", "trie", "rows" or "none".

    Returns:
        The backend.

    Raises:
        ConfigError: an option has an invalid value.
        NumericalError: the model returns NaN in a plain forward.
        UnsupportedError: the chosen `engine` cannot run the model.
    """
    _check_options(engine, max_kv_slots, prefix_cache_slots)
    name = name or getattr(model, "name_or_path", "") or type(model).__name__
    codec = HFCodec(tokenizer, eos_ids=_eos_ids(model), eos_token=eos_token)
    chosen = choose_engine(
        model.eval(),
        context_length(model.config, tokenizer),
        engine=engine,
        name=name,
        max_kv_slots=max_kv_slots,
        prefix_cache_slots=prefix_cache_slots,
        keep_hidden=keep_hidden,
    )
    return LocalBackend(
        name,
        chosen,
        codec,
        fingerprint=fingerprint(model),
        criteria_dirs=criteria_dirs,
        dialogue_header=dialogue_header,
        prompt_token_cost=PROMPT_TOKEN_COST if _bound_by_arithmetic(model) else 0.0,
    )


def _bound_by_arithmetic(model: Any) -> bool:
    """Whether a forward takes longer the more tokens it has: on a CPU, unless all of it is the cost of calls."""
    return model.device.type == "cpu" and model.num_parameters() >= TINY


def fingerprint(model: Any) -> str:
    """Of all parameters the name, the shape, and some numbers, rounded to what every dtype keeps."""

    def parts() -> Iterator[bytes]:
        for name, parameter in model.named_parameters():
            yield f"{name} {tuple(parameter.shape)}".encode()
            if not parameter.is_meta:  # else it is offloaded, and its numbers are not at hand
                some = parameter.detach().flatten()[:SAMPLED].to("cpu", torch.bfloat16).float()
                yield some.numpy().tobytes()

    return of_parts(parts())


def context_length(config: Any, tokenizer: Any) -> int:
    """How many tokens a sequence may have: as the config says, else the tokenizer, else `DEFAULT_CONTEXT`."""
    text = config.get_text_config(decoder=True)
    for attribute in CONTEXT_NAMES:
        value = getattr(text, attribute, None)
        if isinstance(value, int) and value > 0:
            return value
    limit = getattr(tokenizer, "model_max_length", None)
    # Tokenizers without a limit say 1e30.
    return int(limit) if limit and limit < 10**9 else DEFAULT_CONTEXT


def _eos_ids(model: Any) -> list[int]:
    for config in (getattr(model, "generation_config", None), model.config.get_text_config(decoder=True)):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return [int(each) for each in (ids if isinstance(ids, (list, tuple)) else [ids])]
    return []


def _check_options(engine: str, max_kv_slots: int | None, prefix_cache_slots: int) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}", hint=f"use one of {', '.join(ENGINES)}")
    if max_kv_slots is not None and max_kv_slots < 1:
        raise ConfigError(
            f"max_kv_slots is {max_kv_slots}", hint="use a positive number, or None for no limit"
        )
    if prefix_cache_slots < 0:
        raise ConfigError(
            f"prefix_cache_slots is {prefix_cache_slots}", hint="use a number of at least 0; 0 keeps nothing"
        )


def parse_device(device: str | torch.device | None) -> torch.device:
    """The device; None is the first GPU, or the CPU. Raises `ConfigError` for one that is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"unknown device {device!r}", hint='use a device such as "cpu", "cuda", "cuda:1" or "mps"'
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: torch finds no GPU", hint='use device="cpu"')
    return found


def parse_dtype(dtype: str | torch.dtype | None, device: torch.device) -> str | torch.dtype:
    """The type of the weights; None is float32 on a CPU, else as stored. Raises `ConfigError` for no float type."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype == "auto" or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"unknown dtype {dtype!r}", hint='use "auto", "float32", "float16" or "bfloat16"')
    return found


def _local_folder(name: str) -> Path | None:
    """The folder that `name` means, None for a repository. What looks like a path is not sought there."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"the folder {name!r} does not contain a model: it has no config.json",
                hint="use the folder that save_pretrained wrote",
            )
        return path
    if path.is_file() or re.match(r"[./~\\]|[A-Za-z]:\\", name) or name.count("/") > 1 or not name:
        raise ModelNotFoundError(
            f"there is no model folder {name!r}",
            hint="use a folder with config.json, or OWNER/NAME of a model on the hub",
        )
    return None


def _offline(folder: Path | None) -> dict[str, bool]:
    """Options for a repository that can only come from the hub's cache."""
    return {"local_files_only": True} if folder is None and _hub_is_unreachable() else {}


def _hub_is_unreachable() -> bool:
    """Whether the hub's host has no address. huggingface_hub would try for a minute before it says so."""
    if urllib.request.getproxies():
        return False  # then names are resolved elsewhere
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, None)
    except OSError:
        return True
    return False


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn what transformers and huggingface_hub raise into our errors."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} needs a package that is not installed: {_first_line(error)}",
            hint="install that package with pip",
        ) from error
    except (OSError, ValueError) as error:
        if "attn_implementation" in str(error):
            raise ConfigError(
                f"{name}: {_first_line(error)}", hint='use attn_implementation="sdpa" or "eager"'
            ) from error
        # OSError: no such repository or file, no access, no network. ValueError: no name, no language model.
        raise ModelNotFoundError(
            f"{name!r} is not a language model that can be loaded: {_first_line(error)}",
            hint="check the name; gated models need `hf auth login`; offline, use a local folder",
        ) from error
    except Exception as error:  # broken files raise whatever their reader raises
        raise BackendError(
            f"{name} could not be loaded: {type(error).__name__}: {_first_line(error)}",
            hint="check that the model's files are complete",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers meanwhile."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
