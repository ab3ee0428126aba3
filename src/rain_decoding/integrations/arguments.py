"""From what a harness is told about a model to a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rain_decoding.backends import load_backend, read_options
from rain_decoding.config import DEFAULT_PRESET, search_config
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.errors import InputError
from rain_decoding.evaluation.contenders import contender
from rain_decoding.prompting import PromptFormat


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What may be said beside the model's name. All of it means what it means for `rain eval`.

    `decoder` is one of `contenders.FORMS`; `preset`, with `settings` (NAME=VALUE), is that of a decoder whose name
    has none; `engine_options` (NAME=VALUE) say how the model is loaded; `criterion` None is that of the preset.
    """

    decoder: str = "rain"
    preset: str = DEFAULT_PRESET
    settings: str | Sequence[str] = ()
    criterion: str | None = None
    embedding: str = "hashing"
    prompt_format: PromptFormat = "auto"
    device: str | None = None
    dtype: str | None = None
    engine_options: str | Sequence[str] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Arguments:
        """Raises `InputError` for an argument that there is not."""
        names = [field.name for field in fields(cls)]
        if unknown := given.keys() - set(names):
            raise InputError(
                f"unknown model arguments: {', '.join(sorted(unknown))}",
                hint=f"use {', '.join(names)}",
            )
        return cls(**given)

    def load(self, model: str) -> tuple[Decoder, int]:
        """The decoder on a model, and how many requests it should answer at the same time.

        The cheap checks come first. Raises what unknown names and loading the model raise.
        """
        settings, asked = (
            [given] if isinstance(given, str) else given for given in (self.settings, self.engine_options)
        )
        chosen = contender(self.decoder, search_config(self.preset, settings))
        loading = {"device": self.device, "dtype": self.dtype, "keep_hidden": self.embedding == "hidden"}
        loading = {name: value for name, value in loading.items() if value} | read_options(model, asked)
        backend = load_backend(model, **loading)
        decoder = chosen.decoder(
            backend, self.criterion, embedding=self.embedding, prompt_format=self.prompt_format
        )
        return decoder, chosen.concurrency
