"""White-box access: losses of many suffixes in one batch, and the gradient of a loss by the suffix's tokens."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import softplus

from rain_decoding.attacks.passages import Passage, ReadPassage, Wanted
from rain_decoding.backends.base import Backend
from rain_decoding.backends.transformers.layers import tapped
from rain_decoding.errors import UnsupportedError
from rain_decoding.self_evaluation.reading.probe import Linear
from rain_decoding.types import Layer, Tokens

STEP_TOKENS = 4096
"""Tokens of one forward, about, cached ones not counted."""
PREFIX_TOKENS = 1 << 14
"""Tokens before suffixes whose keys and values are kept."""


class Losses(NamedTuple):
    """Per suffix: the loss in nats, and whether every wanted token is the most probable one, or is read as good."""

    values: torch.Tensor
    hits: torch.Tensor


class WhiteBox:
    """The model of a backend on transformers.

    `tokens` and `passes` count what was forwarded; what stands before suffixes is forwarded once and not counted, nor
    is a backward pass. Raises `UnsupportedError` for a backend whose model does not provide gradients.
    """

    def __init__(self, backend: Backend, step_tokens: int = STEP_TOKENS):
        engine: Any = getattr(backend, "engine", None)
        if not isinstance(getattr(engine, "model", None), torch.nn.Module):
            raise UnsupportedError(
                f"{backend.name} does not provide gradients",
                hint="load it as hf:FOLDER, or use rain attack search or injection, which need no gradients",
            )
        self.model: Any = engine.model
        self.codec, self.step_tokens = backend.codec, step_tokens
        self.tokens = self.passes = 0
        self._reuses = backend.capabilities.shares_prefixes
        self._embed: Any = self.model.get_input_embeddings()
        self._selects = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self._prefixes: OrderedDict[Tokens, Any] = OrderedDict()

    def usable(self) -> torch.Tensor:
        """Ids that a suffix may be made of: tokens of printable ASCII, control tokens left out."""
        size = self._embed.weight.shape[0]
        texts = (self.codec.decode([token]) for token in range(size))
        usable = [bool(text.strip()) and text.isascii() and text.isprintable() for text in texts]
        return torch.tensor(usable, device=self._embed.weight.device).nonzero()[:, 0]

    def gradient(self, passage: Passage, ids: Tokens) -> torch.Tensor:
        """The loss's gradient by the one-hot suffix, up to a positive factor: float32 `[len(ids), vocabulary]`."""
        cache, start = self._prefix(passage.before)
        fed = (passage.before + ids + passage.after)[start:] + passage.fed
        embedded = self._embed(torch.tensor([fed], device=self._embed.weight.device)).detach()
        embedded.requires_grad_()
        with torch.enable_grad():
            found = self._losses(passage, cache, inputs_embeds=embedded)
            (gradient,) = torch.autograd.grad(found.values.sum(), embedded)
        first = len(passage.before) - start
        return (gradient[0, first : first + len(ids)] @ self._embed.weight.detach().T).float()

    @torch.no_grad()
    def losses(self, passage: Passage, suffixes: Sequence[Tokens]) -> Losses:
        """Losses of suffixes of equal length in one passage, without its weight."""
        cache, start = self._prefix(passage.before)
        rows = [(passage.before + ids + passage.after)[start:] + passage.fed for ids in suffixes]
        size = max(1, self.step_tokens // len(rows[0]))
        parts = []
        for first in range(0, len(rows), size):
            ids = torch.tensor(rows[first : first + size], device=self._embed.weight.device)
            parts.append(self._losses(passage, cache, input_ids=ids))
        return Losses(torch.cat([part.values for part in parts]), torch.cat([part.hits for part in parts]))

    def _losses(self, passage: Passage, cache: Any, **inputs: torch.Tensor) -> Losses:
        if not isinstance(passage, ReadPassage):
            return _said(self._forward(cache, len(passage.wanted), **inputs), passage.wanted)
        states: dict[Layer, torch.Tensor] = {}
        with tapped(self.model, passage.layers, states.__setitem__):
            self._forward(cache, 1, **inputs)
        last = len(passage.wanted) + 1
        return _read(torch.stack([states[layer][:, -last:] for layer in passage.layers], 1), passage.reading)

    def _forward(self, cache: Any, wanted: int, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits float32 `[rows, wanted, vocabulary]` before the wanted tokens."""
        rows, length = next(iter(inputs.values())).shape[:2]
        self.tokens += rows * length
        self.passes += 1
        options: dict[str, Any] = {"logits_to_keep": wanted} if self._selects else {}
        if cache is not None:
            cache = copy.deepcopy(cache)  # the model writes into it
            if rows > 1:
                cache.batch_repeat_interleave(rows)
            options["past_key_values"] = cache
        output = self.model(**inputs, use_cache=cache is not None, **options)
        return output.logits[:, -wanted:].float()

    @torch.no_grad()
    def _prefix(self, before: Tokens) -> tuple[Any, int]:
        """Keys and values of what stands before the suffix, and how many tokens need not be forwarded again."""
        if not self._reuses or not before:
            return None, 0
        if before not in self._prefixes:
            ids = torch.tensor([before], device=self._embed.weight.device)
            self._prefixes[before] = self.model(input_ids=ids, use_cache=True).past_key_values
            while sum(map(len, self._prefixes)) > PREFIX_TOKENS and len(self._prefixes) > 1:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(before)
        return self._prefixes[before], len(before)


def _read(states: torch.Tensor, reading: Linear) -> Losses:
    """From states `[rows, layers, 1 + wanted, width]`."""
    weights = torch.tensor(reading.weights, dtype=torch.float32, device=states.device)
    odds = torch.einsum("rlnw,lnw->r", states.float(), weights) + reading.constant
    return Losses(softplus(-odds), odds > reading.threshold)


def _said(logits: torch.Tensor, wanted: Wanted) -> Losses:
    """From logits `[rows, len(wanted), vocabulary]`."""
    values, hits = torch.zeros(len(logits), device=logits.device), torch.ones_like(logits[:, 0, 0]).bool()
    for place, forms in enumerate(wanted):
        row = logits[:, place]
        values = values - row.log_softmax(-1)[:, list(forms)].amax(-1)
        hits &= torch.isin(row.argmax(-1), torch.tensor(forms, device=row.device))
    return Losses(values / len(wanted), hits)
