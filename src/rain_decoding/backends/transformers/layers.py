"""Hidden states of a model's decoder layers, taken from a forward while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from rain_decoding.types import LAST, Layer


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The model's decoder layers, the first one first; empty where they cannot be told."""
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", 0)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    return []


def readable_layers(model: Any) -> tuple[Layer, ...]:
    """Layers whose hidden states can be had; the last one is there for every model."""
    return (*range(1, len(decoder_layers(model)) + 1), LAST)


@contextmanager
def tapped(
    model: Any, layers: Iterable[Layer], take: Callable[[Layer, torch.Tensor], object]
) -> Iterator[None]:
    """Meanwhile every forward hands the states `[batch, tokens, width]` of each of the `layers` to `take`.

    The hooks are gone afterwards: others may use the model, too.
    """
    with ExitStack() as hooks:
        for layer in layers:
            module = model.base_model if layer == LAST else decoder_layers(model)[layer - 1]
            hook = module.register_forward_hook(_handing(layer, take))
            hooks.callback(hook.remove)
        yield


def _handing(layer: Layer, take: Callable[[Layer, torch.Tensor], object]) -> Callable[..., None]:
    def hand(module: Any, arguments: Any, output: Any) -> None:
        whole = getattr(output, "last_hidden_state", output)
        take(layer, whole if isinstance(whole, torch.Tensor) else whole[0])

    return hand
