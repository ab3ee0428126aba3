"""Embeddings of judged texts, for the similarity update and widening."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rain_decoding.backends.base import Backend, Codec
from rain_decoding.errors import ConfigError, MissingDependencyError, ModelNotFoundError
from rain_decoding.extras import install
from rain_decoding.plugins import Entry, Forms
from rain_decoding.programs import Program, ask
from rain_decoding.types import LAST, Array, Embed, HiddenStates

NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
WORD = rf"[{NO_SPACES}]|[^\W_{NO_SPACES}]+|[^\w\s]"
"""A word, or a punctuation mark."""

Embedding = Program[Array]


class Embedder(Protocol):
    """Answers `Embed` requests, one per simulation: vectors `[len(starts), dim]`.

    They are unit vectors, but zero where a text holds nothing to embed.
    """

    def embed(self, request: Embed, prompt_length: int) -> Embedding: ...


class TextEmbedder:
    """Base of embedders that work on text alone."""

    def __init__(self, codec: Codec):
        self.codec = codec

    def vectors(self, texts: list[str]) -> Array:
        """Unit vectors `[len(texts), dim]`."""
        raise NotImplementedError

    def embed(self, request: Embed, prompt_length: int) -> Embedding:
        return self.vectors([self.codec.decode(request.tokens[start:]) for start in request.starts])
        yield  # pragma: no cover - makes this a generator that asks for nothing


class HashingEmbedder(TextEmbedder):
    """Hashed words and word pairs, projected to as many dimensions as small sentence encoders have.

    Nothing is downloaded. The projection spreads a text over all dimensions, so that the variance that
    widening looks at has the same order of magnitude as for sentence encoders. In scripts without spaces
    between words, each character is a word.
    """

    features = 4096
    dimensions = 384

    @cached_property
    def _words(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            n_features=self.features,
            ngram_range=(1, 2),
            token_pattern=WORD,
            alternate_sign=False,
        )

    @cached_property
    def _projection(self) -> Array:
        """`[features, dimensions]`, contiguous: a sparse product would copy it at every call otherwise."""
        from sklearn.random_projection import GaussianRandomProjection

        projection = GaussianRandomProjection(self.dimensions, random_state=0)
        return np.ascontiguousarray(projection.fit(np.zeros((1, self.features))).components_.T)

    def vectors(self, texts: list[str]) -> Array:
        return _unit(self._words.transform(texts) @ self._projection)


class SentenceEmbedder(TextEmbedder):
    """A sentence-transformers model, as the paper uses (its code: all-MiniLM-L6-v2)."""

    def __init__(self, codec: Codec, model: str):
        super().__init__(codec)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingDependencyError(
                "the embedding 'sbert' needs sentence-transformers", hint=install("sbert")
            ) from error
        try:
            self.model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(
                f"no sentence-transformers model {model!r}",
                hint="use a folder or a hub name, or 'hashing'",
            ) from error

    def vectors(self, texts: list[str]) -> Array:
        return self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


class HiddenEmbedder:
    """The model's own hidden states, averaged over the text: the last it has, see `Capabilities.layers`.

    Raw states share one large common direction, which would put every cosine near 1. The mean over the prompt
    is taken away (without its first token, whose state is an outlier in many models), so that a threshold
    means something.
    """

    def __init__(self, backend: Backend):
        self._layers = backend.capabilities.layers[-1:] or (LAST,)
        backend.keep_layers(self._layers)

    def embed(self, request: Embed, prompt_length: int) -> Embedding:
        (states,) = yield from ask(HiddenStates(request.tokens, layers=self._layers))
        centre = states[min(1, prompt_length - 1) : prompt_length].mean(axis=0)
        means = np.stack([_mean(states[start:] - centre) for start in request.starts])
        return _unit(means)


def _unit(vectors: Array) -> Array:
    """The rows at length 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _mean(states: Array) -> Array:
    return states.mean(axis=0) if len(states) else np.zeros(states.shape[1])


EMBEDDERS: Forms[Embedder] = Forms(
    "rain_decoding.embeddings",
    "embedding",
    [
        Entry("hashing", lambda _, backend: HashingEmbedder(backend.codec), "hashed words and word pairs"),
        Entry("hidden", lambda _, backend: HiddenEmbedder(backend), "the model's own states"),
        Entry(
            "sbert:NAME_OR_FOLDER",
            lambda model, backend: SentenceEmbedder(backend.codec, model),
            "a sentence-transformers model",
            extra="sbert",
        ),
    ],
    unknown=ConfigError,
)
"""A loader also takes the backend that is searched on."""


def load_embedder(name: str, backend: Backend) -> Embedder:
    """The embedder called `name`, of a form in `EMBEDDERS`. Raises `ConfigError` for another name."""
    entry, model = EMBEDDERS.find(name)
    return entry.load(model, backend)
