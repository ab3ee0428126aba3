"""Options of a model's loader in text form, as on the command line: `threads=4`, `flash_attention=off`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rain_decoding import near_misses
from rain_decoding.errors import ConfigError

TRUTH = {"on": True, "off": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class EngineOption:
    """`kind` is int, float, bool, str, or a tuple of the texts that are allowed; `note` a line about it."""

    kind: type | tuple[str, ...]
    note: str

    @property
    def values(self) -> str:
        """What may be written, in words."""
        if isinstance(self.kind, tuple):
            return ", ".join(self.kind)
        return {int: "a whole number", float: "a number", bool: "on or off", str: "text"}[self.kind]

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises `ValueError`."""
        if isinstance(self.kind, tuple):
            if text not in self.kind:
                raise ValueError(text)
            return text
        if self.kind is bool:
            if text.lower() not in TRUTH:
                raise ValueError(text)
            return TRUTH[text.lower()]
        return self.kind(text)


Options = Mapping[str, EngineOption]
NO_OPTIONS: Options = MappingProxyType({})


def parse_options(options: Options, settings: Iterable[str], form: str) -> dict[str, Any]:
    """Values by name.

    Args:
        options: What the loader accepts.
        settings: Each NAME=VALUE.
        form: How names of such models are written, for messages.

    Returns:
        The values, as the loader takes them. Of an option that is named twice, the last.

    Raises:
        ConfigError: a setting has another form, names no option, or has a value that the option cannot have.
    """
    chosen: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(
                f"the engine option {setting!r} is not of the form NAME=VALUE",
                hint="use one such as threads=4",
            )
        if name not in options:
            known = near_misses.hint(name, options, "options") if options else "leave it out"
            raise ConfigError(f"{form} has no engine option {name!r}", hint=known)
        try:
            chosen[name] = options[name].parse(text)
        except ValueError as error:
            raise ConfigError(f"{name} = {text!r}", hint=f"use {options[name].values}") from error
    return chosen


KV_SLOTS = EngineOption(int, "tokens whose keys and values are held at once")
PREFIX_CACHE = EngineOption(int, "of these, tokens of finished requests; 0 keeps none")
END = EngineOption(str, "exact text of another token that ends a sequence")
CONTEXT = EngineOption(int, "tokens that a sequence may have")
HIDDEN = EngineOption(bool, "keep the last layer's hidden states")

TRANSFORMERS: Options = {
    "device": EngineOption(str, "cpu, cuda, cuda:1, mps, ..."),
    "dtype": EngineOption(("auto", "float32", "float16", "bfloat16"), "data type of the weights"),
    "attn_implementation": EngineOption(("sdpa", "eager"), "attention kernel"),
    "engine": EngineOption(("auto", "trie", "rows", "none"), "how keys and values are kept"),
    "max_kv_slots": KV_SLOTS,
    "prefix_cache_slots": PREFIX_CACHE,
    "keep_hidden": HIDDEN,
    "eos_token": END,
}
HUB: Options = {
    **TRANSFORMERS,
    "revision": EngineOption(str, "branch, tag or commit on the hub"),
    "trust_remote_code": EngineOption(bool, "run code that comes with the model"),
}
LLAMA_CPP: Options = {
    "threads": EngineOption(int, "CPU threads"),
    "flash_attention": EngineOption(bool, "flash attention"),
    "kv_dtype": EngineOption(("f16", "f32"), "data type of keys and values"),
    "context_length": CONTEXT,
    "max_kv_slots": KV_SLOTS,
    "prefix_cache_slots": PREFIX_CACHE,
    "max_sequences": EngineOption(int, "branches held at once"),
    "max_step_tokens": EngineOption(int, "tokens of one decode"),
    "gpu_layers": EngineOption(int, "layers on the GPU"),
    "keep_hidden": HIDDEN,
    "eos_token": END,
    "verbose": EngineOption(bool, "llama.cpp's log on standard error"),
}
ENDPOINT: Options = {
    "timeout": EngineOption(float, "seconds for a reply"),
    "attempts": EngineOption(int, "times a request is sent at most"),
    "backoff": EngineOption(float, "seconds before the second attempt, about"),
    "max_connections": EngineOption(int, "open connections at most"),
    "context_length": CONTEXT,
    "chat": EngineOption(bool, "insist on the model's chat template, or do not use it"),
    "eos_token": EngineOption(str, "another text by which the server lists the end of a sequence"),
    "affinity": EngineOption(int, "first characters of a prompt that choose among several servers"),
}
