"""Embeddings of judged texts, for the similarity update and widening."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rain_decoding.backends.base import Backend, Codec
from rain_decoding.errors import ConfigError, MissingDependencyError, ModelNotFoundError, UnsupportedError
from rain_decoding.types import BackendRequest, Embed, HiddenStates

Embedding = Generator[list[BackendRequest], list[Any], np.ndarray]


class Embedder(Protocol):
    """Answers `Embed` requests: one call per simulation, unit vectors `[len(starts), dim]` (zero for empty texts)."""

    def embed(self, request: Embed, prompt_length: int) -> Embedding: ...


class TextEmbedder:
    """Base of embedders that work on text alone."""

    def __init__(self, codec: Codec):
        self.codec = codec

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Unit vectors `[len(texts), dim]`."""
        raise NotImplementedError

    def embed(self, request: Embed, prompt_length: int) -> Embedding:
        return self.vectors([self.codec.decode(request.tokens[start:]) for start in request.starts])
        yield  # pragma: no cover - makes this a generator that asks for nothing


class HashingEmbedder(TextEmbedder):
    """Hashed words and word pairs, projected to as many dimensions as small sentence encoders have. No download.

    The projection spreads a text over all dimensions, so that the variance that widening looks at has the same
    order of magnitude as for sentence encoders.
    """

    features = 4096
    dimensions = 384

    @cached_property
    def _pipeline(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer
        from sklearn.random_projection import GaussianRandomProjection

        words = HashingVectorizer(
            n_features=self.features, ngram_range=(1, 2), token_pattern=r"[^\W_]+|[^\w\s]", alternate_sign=False
        )
        projection = GaussianRandomProjection(self.dimensions, random_state=0).fit(np.zeros((1, self.features)))
        return make_pipeline(words, projection, Normalizer())

    def vectors(self, texts: list[str]) -> np.ndarray:
        return self._pipeline.transform(texts)


class SentenceEmbedder(TextEmbedder):
    """A sentence-transformers model, as the paper uses (its code: all-MiniLM-L6-v2)."""

    def __init__(self, codec: Codec, model: str):
        super().__init__(codec)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingDependencyError(
                "the embedding 'sbert' needs sentence-transformers", hint='pip install "rain-decoding[sbert]"'
            ) from error
        try:
            self.model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(
                f"no sentence-transformers model {model!r}", hint="give a folder or a hub name, or use 'hashing'"
            ) from error

    def vectors(self, texts: list[str]) -> np.ndarray:
        return self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


class HiddenEmbedder:
    """The model's own last hidden states, averaged over the text.

    Raw states share one large common direction, which would put every cosine near 1. The mean over the prompt is
    taken away (without its first token, whose state is an outlier in many models), so that a threshold means something.
    """

    def __init__(self, backend: Backend):
        if not backend.capabilities.hidden_states:
            raise UnsupportedError(
                f"{backend.name} gives no hidden states", hint="load it with keep_hidden=True, or use 'hashing'"
            )

    def embed(self, request: Embed, prompt_length: int) -> Embedding:
        (states,) = yield [HiddenStates(request.tokens)]
        centre = states[min(1, prompt_length - 1) : prompt_length].mean(axis=0)
        means = np.stack([_mean(states[start:] - centre) for start in request.starts])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return np.divide(means, norms, out=np.zeros_like(means), where=norms > 0)


def _mean(states: np.ndarray) -> np.ndarray:
    return states.mean(axis=0) if len(states) else np.zeros(states.shape[1])


EMBEDDERS: dict[str, Callable[[Backend, str], Embedder]] = {
    "hashing": lambda backend, _: HashingEmbedder(backend.codec),
    "hidden": lambda backend, _: HiddenEmbedder(backend),
    "sbert": lambda backend, model: SentenceEmbedder(backend.codec, model),
}


def load_embedder(name: str, backend: Backend) -> Embedder:
    """The embedder called "hashing", "hidden" or "sbert:NAME_OR_FOLDER"."""
    kind, _, model = name.partition(":")
    if kind not in EMBEDDERS or (kind == "sbert") != bool(model):
        raise ConfigError(f"unknown embedding {name!r}", hint="embeddings: hashing, hidden, sbert:NAME_OR_FOLDER")
    return EMBEDDERS[kind](backend, model)
