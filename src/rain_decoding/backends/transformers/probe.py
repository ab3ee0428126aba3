"""Which engine works for a model: found out at load by comparing each with plain full forwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.base import Engine
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.masks import attention_layers
from rain_decoding.backends.transformers.plain import PlainEngine, plain_logits
from rain_decoding.backends.transformers.rows import RowEngine
from rain_decoding.errors import CapacityError, ConfigError, NumericalError, RainError, UnsupportedError
from rain_decoding.types import Tokens

ENGINES = ("auto", "trie", "rows", "none")
OWNER = 0
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.01, torch.bfloat16: 0.05}
"""Largest root-mean-square difference of a row of logits, in standard deviations of the plain row.

Right engines differ from plain forwards by rounding (measured: 2e-6, 0.005, 0.03), wrong ones by 0.07 to 2.
"""
NOISE_FACTOR = 3
"""What is allowed, as a multiple of the difference between plain forwards of different lengths."""
LONGEST_WINDOW = 64
"""The probe goes beyond a sliding window only up to this length."""


def choose_engine(
    model: Any,
    context_length: int,
    *,
    engine: str = "auto",
    name: str = "the model",
    max_kv_slots: int | None = None,
    prefix_cache_slots: int = 8192,
    keep_hidden: bool = False,
) -> Engine:
    """The first engine that gives the model's own logits: token trie, copied caches, no cache.

    `engine` "trie" or "rows" asks for that one: `UnsupportedError` if it does not work. A fallback is warned
    about. Raises `NumericalError` for a model whose plain forwards give NaN.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}", hint=f"use one of {', '.join(ENGINES)}")
    rows = {"max_kv_slots": max_kv_slots, "keep_finished": prefix_cache_slots > 0}
    trie = {
        "max_kv_slots": max_kv_slots,
        "prefix_cache_slots": prefix_cache_slots,
        "keep_hidden": keep_hidden,
    }
    candidates: list[tuple[str, Callable[..., Engine], dict[str, Any]]] = [
        ("trie", TrieEngine, trie),
        ("trie", TrieEngine, trie | {"split_from": None}),
        ("rows", RowEngine, rows),
        ("rows", RowEngine, rows | {"stepwise": True}),
    ]
    probe = Probe(model, name)
    problems: dict[str, str] = {}
    for kind, make, options in candidates:
        if engine not in (kind, "auto"):
            continue
        # The probe's engine has no memory limit, so that it fails for the model's sake alone, and splits every step.
        probed = options | {"max_kv_slots": None}
        if kind == "trie":
            probed = {"split_from": 0} | probed
        problem = probe.problem(partial(make, model, context_length, **probed))
        if not problem:
            _warn(name, kind, problems)
            return make(model, context_length, **options)
        problems[kind] = problem
    if engine not in ("auto", "none"):
        raise UnsupportedError(
            f"engine {engine!r} fails for {name}: {problems[engine]}", hint="use engine='auto'"
        )
    _warn(name, "none", problems)
    return PlainEngine(model, context_length)


def _warn(name: str, chosen: str, problems: dict[str, str]) -> None:
    problems.pop(chosen, None)
    if problems:
        what = {
            "rows": "copies its own cache at every fork",
            "none": "recomputes every sequence from its first token",
        }[chosen]
        reasons = "; ".join(f"engine {kind!r} fails: {problem}" for kind, problem in problems.items())
        warnings.warn(f"{name} will be slow: the backend {what} ({reasons})", stacklevel=4)


class Probe:
    """A small random token tree: two branches of one trunk and, after a rewind, a third."""

    def __init__(self, model: Any, name: str):
        config = model.config.get_text_config(decoder=True)
        draw = np.random.Generator(np.random.Philox(key=0)).integers
        start = _trunk_length(config)
        trunk = draw(config.vocab_size, size=start)
        tails = draw(config.vocab_size, size=(3, 6))
        self.start = start
        self.branches: list[Tokens] = [tuple(map(int, (*trunk, *tail))) for tail in tails]
        # The third leaves the first two tokens after the trunk.
        self.branches[2] = (*self.branches[0][: start + 2], *self.branches[2][start + 2 :])
        self.plain = [plain_logits(model, branch) for branch in self.branches]
        if np.isnan(self.plain).any():
            raise NumericalError(
                f"{name} returns NaN in a plain forward",
                hint="try dtype=float32 or another attn_implementation",
            )
        self.tolerance = max(TOLERANCE.get(model.dtype, 0.05), NOISE_FACTOR * self._noise(model))

    def _noise(self, model: Any) -> float:
        """How far plain forwards are from each other: large for some quantized and mixture models."""
        lengths = [self.start, self.start + 3]
        shorter = np.stack([plain_logits(model, self.branches[0][:length])[-1] for length in lengths])
        return deviation(shorter, self.plain[0][[length - 1 for length in lengths]])

    def problem(self, make: Callable[[], Engine]) -> str:
        """Why the engine does not do, or "" if it does."""
        try:
            worst = self._worst(make())
        except CapacityError:
            raise
        except Exception as error:  # whatever the model's own code raises
            said = error.args[0] if isinstance(error, RainError) else f"{type(error).__name__}: {error}"
            return str(said).strip().splitlines()[0]
        if worst <= self.tolerance:
            return ""
        return f"its logits deviate by {worst:.2g} standard deviations"

    def _worst(self, engine: Engine) -> float:
        """The largest deviation over steps with inner tokens and a rewind whose slots are used again."""
        s = self.start
        steps = [
            [(0, s // 2)],
            [(0, s + 3), (1, s + 2), (0, s)],
            [(0, s + 4), (1, s + 3), (1, s + 5)],
            None,
            [(0, s + 1), (2, s + 3), (0, s + 5)],
            [(2, s + 2), (0, s + 6), (2, s + 6), (0, s - 1)],
        ]
        worst = 0.0
        for step in steps:
            if step is None:
                for branch in range(len(self.branches)):
                    engine.retain(OWNER + branch, [self.branches[0][: s + 2]])
                continue
            sequences = [self.branches[branch][:length] for branch, length in step]
            logits, *_ = engine.forward(sequences, [OWNER + branch for branch, _ in step])
            plain = np.stack([self.plain[b][length - 1] for b, length in step])
            worst = max(worst, deviation(logits, plain))
        return worst


def deviation(logits: np.ndarray, plain: np.ndarray) -> float:
    """Worst root-mean-square difference of a row `[vocabulary]`, in standard deviations of the plain row."""
    difference = np.sqrt(np.mean(np.square(logits - plain, dtype=np.float64), axis=1))
    worst = float(np.max(difference / np.maximum(plain.std(axis=1, dtype=np.float64), 1e-12)))
    return worst if np.isfinite(worst) else float("inf")


def _trunk_length(config: Any) -> int:
    try:
        windows = [size for size in attention_layers(config).values() if size and size <= LONGEST_WINDOW]
    except UnsupportedError:
        windows = []
    return max([8, *(size + 2 for size in windows)])
