"""Hidden states of a model's decoder layers, taken from a forward while it runs, or shifted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.directions import Direction, Directions
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
            hook = _module(model, layer).register_forward_hook(_handing(layer, take))
            hooks.callback(hook.remove)
        yield


def _module(model: Any, layer: Layer) -> torch.nn.Module:
    """What puts out the states of a layer."""
    module: torch.nn.Module = model.base_model if layer == LAST else decoder_layers(model)[layer - 1]
    return module


def _handing(layer: Layer, take: Callable[[Layer, torch.Tensor], object]) -> Callable[..., None]:
    def hand(module: Any, arguments: Any, output: Any) -> None:
        whole = getattr(output, "last_hidden_state", output)
        take(layer, whole if isinstance(whole, torch.Tensor) else whole[0])

    return hand


@contextmanager
def shifting(model: Any, directions: Directions, numbers: np.ndarray) -> Iterator[None]:
    """Meanwhile a forward shifts the states of its tokens along the directions `numbers`, int64 `[batch, tokens]`.

    A state h becomes h + strength * |h| * vector, in each of a direction's layers.
    """
    with ExitStack() as hooks:
        for number in np.unique(numbers[numbers > 0]):
            direction = directions[int(number)]
            chosen = torch.from_numpy(numbers == number)
            for layer, vector in zip(direction.layers, direction.vectors, strict=True):
                shift = _shifting(direction, torch.from_numpy(vector), chosen)
                hooks.callback(_module(model, layer).register_forward_hook(shift).remove)
        yield


def _shifting(direction: Direction, vector: torch.Tensor, chosen: torch.Tensor) -> Callable[..., Any]:
    def shift(module: Any, arguments: Any, output: Any) -> Any:
        whole = getattr(output, "last_hidden_state", output)
        states = whole if isinstance(whole, torch.Tensor) else whole[0]
        exact = states.float()
        added = direction.strength * exact.norm(dim=-1, keepdim=True) * vector.to(states.device)
        moved = torch.where(chosen.to(states.device)[..., None], exact + added, exact).to(states.dtype)
        if whole is not output:
            output.last_hidden_state = moved
            return output
        return moved if whole is states else (moved, *whole[1:])

    return shift
