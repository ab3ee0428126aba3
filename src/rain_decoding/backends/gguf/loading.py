"""Loading GGUF files, with llama.cpp's errors translated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cyllama.llama import llama_cpp

from rain_decoding.backends.fingerprint import of_file
from rain_decoding.backends.gguf.codec import GgufCodec
from rain_decoding.backends.gguf.engine import LlamaCppEngine
from rain_decoding.backends.gguf.logits import LogitsReader
from rain_decoding.backends.gguf.threads import default_threads
from rain_decoding.backends.local import TINY, LocalBackend, criteria_of
from rain_decoding.backends.trie import PIN
from rain_decoding.errors import (
    BackendError,
    CapacityError,
    ConfigError,
    ModelNotFoundError,
    UnsupportedError,
)
from rain_decoding.types import VALUES, Layer

MAGIC = b"GGUF"
DEFAULT_CONTEXT = 4096
"""Tokens a sequence may have unless asked otherwise."""
RESERVED = 1024
"""KV slots that are reserved at first. What is held beyond them doubles the cache, up to `max_kv_slots`."""
MAX_SEQUENCES = 256
"""As many as llama.cpp is built for."""
KV_TYPES = {"f32": 0, "f16": 1}
"""Their numbers in ggml."""
OFF, AUTO, ON = 0, -1, 1
PROMPT_TOKEN_COST = 0.35
"""Of quantised models on a CPU, where arithmetic is the bound: 0.42 on 135M parameters, 0.35 on 494M."""


class Model(llama_cpp.LlamaModel):
    """The binding's model with the vocabulary's size, which its contexts ask the model for."""

    _shown: int | None = None

    @property
    def n_vocab(self) -> int:
        """Entries of a row of logits, as its contexts hand them over."""
        return self._shown or self.get_vocab().n_vocab

    @contextmanager
    def showing(self, entries: int) -> Iterator[None]:
        """Rows are handed over as if the vocabulary had so many entries meanwhile."""
        self._shown = entries
        try:
            yield
        finally:
            self._shown = None


def load(
    file: str,
    *,
    display_name: str | None = None,
    criteria_dirs: Iterable[Path] = (),
    trust_model_criteria: bool = False,
    dialogue_header: str | None = None,
    known_models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    eos_token: str | None = None,
    context_length: int | None = None,
    max_kv_slots: int | None = None,
    prefix_cache_slots: int | None = None,
    max_sequences: int = MAX_SEQUENCES,
    max_step_tokens: int = 512,
    kv_dtype: Literal["f32", "f16"] | None = None,
    flash_attention: bool | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    verbose: bool = False,
) -> LocalBackend:
    """Load a GGUF file on llama.cpp, in this process.

    Args:
        file: The .gguf file; of a split model, the first part.
        display_name: What the backend is called; None: the file's name.
        criteria_dirs: Folders of criteria that come with the model, before the folder `criteria` beside the file.
        trust_model_criteria: Let criteria in the model's own folder replace those of this package.
        dialogue_header: Text before the turns of the format `dialogue`; None: that of `known_models`, else built in.
        known_models: `criteria_dirs` and `dialogue_header` by the model's name in the file, for models known here.
        eos_token: Exact text of another token that ends a sequence; None: only the one that the file names.
        context_length: Tokens per sequence, 1 to the model's own; None: the model's own, at most `DEFAULT_CONTEXT`.
        max_kv_slots: Tokens whose keys and values are held for all sequences together, >= 1; None: twice
            `context_length`. The memory is reserved as they are needed.
        prefix_cache_slots: Of these, tokens of finished requests, >= 0; None: half of `max_kv_slots`.
        max_sequences: Branches held at once, 1 to `MAX_SEQUENCES`; half as many with a sliding window.
        max_step_tokens: Tokens of one decode, >= 1.
        kv_dtype: Type of keys and values, "f32" or "f16"; None: f16, but f32 for a model of less than `TINY`
            parameters on a CPU.
        flash_attention: On or off; None: on, but llama.cpp's choice with a GPU, and off for such a tiny model.
        threads: CPU threads, >= 1; None: see `default_threads`.
        gpu_layers: Layers on the GPU, >= 0; None: all, if llama.cpp is built for one.
        verbose: Let llama.cpp write its log to standard error.

    Returns:
        The backend.

    Raises:
        ModelNotFoundError: there is no such file, or it is not a GGUF file.
        ConfigError: an option has an invalid value.
        UnsupportedError: the model's state cannot be rewound token by token.
        CapacityError: llama.cpp could not reserve the KV cache.
        BackendError: llama.cpp cannot load the file.
    """
    _check("context_length", context_length)
    _check("max_kv_slots", max_kv_slots)
    _check("prefix_cache_slots", prefix_cache_slots, least=0)
    _check("max_sequences", max_sequences, most=MAX_SEQUENCES)
    _check("max_step_tokens", max_step_tokens)
    _check("threads", threads)
    path, layers = _model_file(file), _layers(gpu_layers)
    if not verbose:
        llama_cpp.disable_logging()
    model = _model(path, layers)
    _check("context_length", context_length, most=model.n_ctx_train)
    length = context_length or min(model.n_ctx_train, DEFAULT_CONTEXT)
    slots = max_kv_slots or 2 * length
    exact = layers == 0 and model.n_params < TINY
    kv_type = _kv_type(kv_dtype or ("f32" if exact else "f16"))
    workers = threads or default_threads()
    make_context = partial(
        _context,
        model,
        n_batch=max_step_tokens,
        n_ubatch=max_step_tokens,
        n_seq_max=min(max_sequences + 1, MAX_SEQUENCES),  # one is kept free, see `Sequences`
        kv_unified=True,  # branches share the cells of what they have in common
        swa_full=True,  # a rewind needs what has left the sliding window
        n_threads=workers,
        n_threads_batch=workers,
        type_k=kv_type,
        type_v=kv_type,
        flash_attn_type=_flash(flash_attention, layers, exact),
    )

    def make_engine(readable: tuple[Layer, ...]) -> LlamaCppEngine:
        engine = LlamaCppEngine(
            make_context(min(slots, RESERVED)),
            llama_cpp.LlamaBatch(n_tokens=max_step_tokens, embd=0, n_seq_max=MAX_SEQUENCES),
            model.n_vocab,
            length,
            max_kv_slots=slots,
            prefix_cache_slots=slots // 2 if prefix_cache_slots is None else prefix_cache_slots,
            sliding_window=_has_window(model),
            larger=make_context,
            logits=LogitsReader(model.n_vocab, model),
        )
        engine.description, engine.threads, engine.layers = model.desc, workers, readable
        return engine

    engine = make_engine((VALUES,))
    engine.layers = _readable(engine)
    engine.another = partial(make_engine, engine.layers)
    codec = GgufCodec(model, eos_token=eos_token)
    known = known_models.get(_metadata(model, "general.name"), {})
    brought = [
        *criteria_of(path.parent, trusted=trust_model_criteria),
        *known.get("criteria_dirs", ()),
    ]
    return LocalBackend(
        display_name or path.name,
        engine,
        codec,
        fingerprint=of_file(path),
        criteria_dirs=[*criteria_dirs, *brought],
        dialogue_header=known.get("dialogue_header") if dialogue_header is None else dialogue_header,
        prompt_token_cost=0.0 if exact or layers else PROMPT_TOKEN_COST,
        on_close=codec.close,
    )


def _model_file(file: str) -> Path:
    path = Path(file).expanduser()
    hint = "use the path of a .gguf file"
    if path.is_dir():
        raise ModelNotFoundError(f"{file!r} is a folder", hint=hint)
    try:
        with path.open("rb") as opened:
            magic = opened.read(len(MAGIC))
    except OSError as error:
        raise ModelNotFoundError(f"there is no model file {file!r}: {error.strerror}", hint=hint) from error
    if magic != MAGIC:
        raise ModelNotFoundError(f"{file!r} is not a GGUF file: it begins with {magic!r}", hint=hint)
    return path


def _model(path: Path, layers: int) -> Model:
    params = llama_cpp.LlamaModelParams()
    params.n_gpu_layers = layers
    try:
        model = Model(str(path), params)
    except (OSError, RuntimeError, ValueError) as error:
        raise BackendError(
            f"llama.cpp cannot load {path}",
            hint="it may be incomplete, too large for memory, or of an unsupported architecture; "
            "verbose=True shows llama.cpp's own messages",
        ) from error
    if model.has_encoder() or model.is_recurrent() or model.is_hybrid():
        raise UnsupportedError(
            f"{path} is a {model.desc}, whose state cannot be rewound token by token",
            hint="load the model with hf:NAME_OR_FOLDER",
        )
    return model


def _metadata(model: Model, key: str) -> str:
    """A value of the file, "" if it has none."""
    try:
        return model.meta_val_str(key)
    except ValueError:
        return ""


def _has_window(model: Model) -> bool:
    """Whether some layers attend to the last tokens only."""
    architecture = _metadata(model, "general.architecture")
    sizes = [_metadata(model, f"{architecture}.attention.{key}") for key in ("sliding_window", "chunk_size")]
    return (
        any(size not in ("", "0") for size in sizes) or architecture == "llama4"
    )  # whose window no key names


def _context(model: Model, slots: int, **settings: int) -> Any:
    params = llama_cpp.LlamaContextParams()
    params.n_ctx = slots
    for name, value in settings.items():
        setattr(params, name, value)
    if hasattr(params, "n_outputs_max"):  # where it is too small, newer builds end the process
        params.n_outputs_max = max(params.n_batch, params.n_seq_max)
        params.n_outputs_max_per_seq = 0
    try:
        return llama_cpp.LlamaContext(model, params)
    except RuntimeError as error:
        raise CapacityError(
            f"llama.cpp could not reserve a KV cache of {params.n_ctx} slots: {error}",
            hint="set a lower max_kv_slots or context_length",
        ) from error


def _readable(engine: LlamaCppEngine) -> tuple[Layer, ...]:
    """The engine's layers, none where the values in its KV cache are not of the form that is known."""
    try:
        engine.hidden((0,), 0, engine.layers, PIN)
    except ValueError:
        return ()
    finally:
        engine.finish(PIN, ())
    return engine.layers


def _layers(asked: int | None) -> int:
    """How many layers go to the GPU; -1 for all."""
    if llama_cpp.llama_supports_gpu_offload():
        return -1 if asked is None else asked
    if asked:
        raise ConfigError(
            f"gpu_layers is {asked}, but this llama.cpp is built for the CPU only",
            hint="omit it, or install a cyllama built for your GPU",
        )
    return 0


def _kv_type(name: str) -> int:
    if name not in KV_TYPES:
        raise ConfigError(f"unknown kv_dtype {name!r}", hint=f"use one of {', '.join(KV_TYPES)}")
    return KV_TYPES[name]


def _flash(asked: bool | None, layers: int, exact: bool) -> int:
    if asked is None:
        return AUTO if layers else OFF if exact else ON
    return ON if asked else OFF


def _check(name: str, value: int | None, *, least: int = 1, most: int | None = None) -> None:
    """Raise `ConfigError` unless the option's value is None or from `least` to `most`."""
    if value is not None and (value < least or (most is not None and value > most)):
        raise ConfigError(
            f"{name} is {value}",
            hint=f"use a number from {least} to {most}" if most else f"use a number of at least {least}",
        )
