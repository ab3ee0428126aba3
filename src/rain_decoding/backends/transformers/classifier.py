"""A sequence-classification model of transformers, served like a backend: texts in, label probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import transformers

from rain_decoding.backends.base import Counters, Handle, Reply
from rain_decoding.backends.transformers.codec import control_texts, rendered
from rain_decoding.backends.transformers.loading import context_length, pretrained
from rain_decoding.errors import BackendError, NumericalError
from rain_decoding.programs import Request
from rain_decoding.turns import Shared, in_turn
from rain_decoding.types import Array, Message, Tokens


@dataclass(frozen=True, slots=True)
class Classify(Request[Array]):
    """One text as the model reads it. Reply: `numpy.ndarray` of float64, the probability of each label."""

    tokens: Tokens
    types: Tokens = ()
    """The segment of each token, for models that are told."""


class Classifier(Shared):
    """Reads all texts that are pending in one padded forward. Has of a backend what the scheduler needs.

    Probabilities are a softmax over the labels, or a sigmoid of each where there is one label or the model's
    `problem_type` is "multi_label_classification". `max_tokens` is the most that a text may have.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.control_texts = control_texts(tokenizer)
        self.labels = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
        self.max_tokens = min(context_length(model.config, tokenizer), tokenizer.model_max_length)
        self.counters = Counters()
        self._pending: list[Handle] = []
        several = getattr(model.config, "problem_type", None) == "multi_label_classification"
        self._independent = several or len(self.labels) == 1

    def encode(self, text: str, answer: str | None = None, *, special: bool = True) -> Classify:
        """Tokens of a text, or of a text and an answer; with `special`, in the frame the model expects."""
        encoded = self.tokenizer(text, answer, add_special_tokens=special, verbose=False)
        return Classify(tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ())))

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation in the tokenizer's chat template. Raises `InputError` for what it refuses."""
        return rendered(self.tokenizer, messages, answers=False)

    @in_turn
    def submit(self, request: Any, owner: int) -> Handle:
        handle = Handle(request, owner)
        self._pending.append(handle)
        return handle

    @in_turn
    def cancel(self, handle: Handle) -> None:
        self._pending = [other for other in self._pending if other is not handle]

    def wake(self) -> None:
        """A step waits for nothing here."""

    @in_turn
    def step(self) -> list[Reply]:
        """Read everything that is pending."""
        handles, self._pending = self._pending, []
        if not handles:
            return []
        requests = [cast(Classify, handle.request) for handle in handles]
        probabilities = self._forward(requests)
        for handle, request in zip(handles, requests, strict=True):
            handle.forwarded = len(request.tokens)
        self.counters.forward_passes += 1
        self.counters.tokens_forwarded += sum(handle.forwarded for handle in handles)
        return [self._reply(handle, row) for handle, row in zip(handles, probabilities, strict=True)]

    def _reply(self, handle: Handle, row: np.ndarray) -> Reply:
        if np.isfinite(row).all():
            return Reply(handle, row)
        error = NumericalError(f"{self.name} returned NaN", hint="try another classifier")
        return Reply(handle, error=error)

    @torch.inference_mode()
    def _forward(self, requests: Sequence[Classify]) -> np.ndarray:
        width = max(len(request.tokens) for request in requests)
        config = self.model.config
        own = config.pad_token_id
        pad = _absent(requests) if own is None else own
        inputs = {
            "input_ids": [_padded(request.tokens, width, pad) for request in requests],
            "attention_mask": [_padded((1,) * len(request.tokens), width, 0) for request in requests],
        }
        if all(request.types for request in requests):
            inputs["token_type_ids"] = [_padded(request.types, width, 0) for request in requests]
        tensors = {key: torch.tensor(rows, device=self.model.device) for key, rows in inputs.items()}
        # Decoders look for the last token that is no padding, and refuse to without a padding token.
        config.pad_token_id = pad
        try:
            logits = self.model(**tensors).logits.double()
        finally:
            config.pad_token_id = own
        return (logits.sigmoid() if self._independent else logits.softmax(-1)).cpu().numpy()


def load(name: str) -> Classifier:
    """The classifier in a folder or of the hub.

    Raises what loading a language model raises, and `BackendError` for a model without a trained classifier.
    """
    options = {"output_loading_info": True}
    kind = _WithInfo(transformers.AutoModelForSequenceClassification)
    model, tokenizer = pretrained(name, kind, options=options)
    if kind.missing:
        raise BackendError(
            f"{name} is not a trained classifier: {', '.join(sorted(kind.missing)[:3])} missing",
            hint="use a sequence-classification model; for a language model as judge, use --judge hf:NAME",
        )
    return Classifier(model, tokenizer, name)


class _WithInfo:
    """An auto class that keeps what its model's files lacked."""

    def __init__(self, kind: Any):
        self.kind, self.missing = kind, set[str]()

    def from_pretrained(self, name: str, **options: Any) -> Any:
        model, info = self.kind.from_pretrained(name, **options)
        self.missing = set(info["missing_keys"])
        return model


def _padded(row: Tokens, width: int, value: int) -> Tokens:
    return row + (value,) * (width - len(row))


def _absent(requests: Sequence[Classify]) -> int:
    """A token that stands in none of the texts, and so can pass for padding."""
    used = {token for request in requests for token in request.tokens}
    return next(token for token in range(len(used) + 1) if token not in used)
