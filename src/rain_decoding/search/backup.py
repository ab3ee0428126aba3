"""Backup of one score along a path, and the similarity update (paper, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rain_decoding.config import SearchConfig
from rain_decoding.search.tree import Node
from rain_decoding.types import Array


def back_up(path: Sequence[Node], score: float, embeddings: Array | None, config: SearchConfig) -> list[Node]:
    """Credit `score` in [-1, 1] to every node of `path` (root first) and to siblings that resemble them.

    `embeddings` `[len(path) - 1, dim]` belong to the nodes below the root: each is the embedding of the text from
    the node's first token to the end of the rollout. None when the configuration needs none.
    Returns the siblings that were credited.
    """
    similar: list[Node] = []
    for index in range(len(path) - 1, 0, -1):
        node = path[index]
        node.visits += 1
        node.evaluations += 1
        if embeddings is not None:
            _update_embedding(node, embeddings[index - 1])
            if config.similarity:
                similar += _credit_similar_siblings(node, score, config)
        node.value += (score - node.value) / node.visits
    root = path[0]
    root.visits += 1
    root.evaluations += 1
    root.value += (score - root.value) / root.visits
    return similar


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two vectors; 0 if one of them is zero."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b)) / norm if norm else 0.0


def _update_embedding(node: Node, embedding: Array) -> None:
    """Running mean over the node's evaluations."""
    if node.embedding is None:
        node.embedding = np.array(embedding, dtype=np.float64)
    else:
        node.embedding = node.embedding + (embedding - node.embedding) / node.evaluations


def _credit_similar_siblings(node: Node, score: float, config: SearchConfig) -> list[Node]:
    credited = []
    for sibling in node.siblings:
        if sibling.embedding is None or node.embedding is None:
            continue
        similarity = cosine(node.embedding, sibling.embedding)
        if similarity >= config.similarity_threshold:
            weight = config.similarity_discount * similarity
            sibling.value = (sibling.value * sibling.visits + weight * score) / (sibling.visits + weight)
            sibling.visits += weight
            credited.append(sibling)
    return credited
