"""How far states are shifted: by a full forward of the same texts, as much moves as was asked for."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from self_evaluation import judges

from rain_decoding.backends.directions import Direction
from rain_decoding.backends.transformers import wrap
from rain_decoding.backends.transformers.layers import decoder_layers
from rain_decoding.prompting import build_prompt
from rain_decoding.self_evaluation.reading.examples import everyday_requests
from rain_decoding.self_evaluation.reading.strength import ANSWERS, EVERY, LENGTH, MOST, NEAR, strength_for

LAYER = 1


@pytest.fixture(params=[1.0, 50.0], ids=["even", "one-large-dimension"])
def loaded(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A tiny model, once with states most of whose length is in one dimension; and its backend."""
    tokenizer = judges.tokenizer("byte-level")
    model = deepcopy(judges.model(len(tokenizer)))  # others have it, too
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] *= request.param
    backend = wrap(model, tokenizer, name="tiny", dialogue_header="", prefix_cache_slots=0)
    backend.keep_layers([LAYER])
    return model, backend


def towards(model: Any, strength: float) -> Direction:
    """A direction of its own that the large dimension has no share in."""
    vector = np.random.default_rng(5).normal(size=model.config.hidden_size).astype(np.float32)
    vector[0] = 0.0
    return Direction((LAYER,), (vector / np.linalg.norm(vector))[None], strength)


def probabilities(model: Any, tokens: list[int], along: Direction | None, start: int) -> np.ndarray:
    """Of the next token, by a full forward in which the states from `start` on were moved."""

    def moved(module: Any, arguments: Any, output: Any) -> Any:
        states = output if isinstance(output, torch.Tensor) else output[0]
        if along is not None:
            for place in range(start, states.shape[1]):
                length = states[0, place].norm()
                states[0, place] += along.strength * length * torch.from_numpy(along.vectors[0])
        return output

    hook = decoder_layers(model)[LAYER - 1].register_forward_hook(moved)
    try:
        with torch.inference_mode():
            return model(torch.tensor([tokens])).logits[0, -1].double().softmax(-1).numpy()
    finally:
        hook.remove()


def share(model: Any, backend: Any, along: Direction) -> float:
    """The mean total variation distance over places of the plain answers."""
    found = []
    for request in everyday_requests()[:ANSWERS]:
        prompt = list(build_prompt(request, backend).tokens)
        tokens = list(prompt)
        while len(tokens) < len(prompt) + LENGTH and (
            len(tokens) == len(prompt) or tokens[-1] not in backend.codec.eos
        ):
            if (len(tokens) - len(prompt)) % EVERY == 0:
                plain, shifted = (
                    probabilities(model, tokens, each, len(prompt) - 1) for each in (None, along)
                )
                found.append(np.abs(plain - shifted).sum() / 2)
            tokens.append(int(probabilities(model, tokens, None, 0).argmax()))
    return float(np.mean(found))


def test_as_much_moves_as_was_asked_for(loaded: tuple[Any, Any]) -> None:
    model, backend = loaded
    strengths = []
    for moved in (0.1, 0.25, 0.5):
        strength = strength_for(backend, lambda strength: towards(model, strength), moved)
        assert abs(share(model, backend, towards(model, strength)) - moved) <= NEAR * moved + 1e-3
        strengths.append(strength)
    assert all(less < more for less, more in pairwise(strengths))
    assert backend.engine.slots_used == 0


def test_what_moves_nothing_is_tried_no_further_than_there_is_sense(loaded: tuple[Any, Any]) -> None:
    model, backend = loaded
    nothing = np.zeros((1, model.config.hidden_size), dtype=np.float32)
    assert 1.0 < strength_for(backend, lambda strength: Direction((LAYER,), nothing, strength), 0.25) <= MOST
