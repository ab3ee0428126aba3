"""How far states are shifted: by a full forward of the same texts, as much moves as was asked for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from self_evaluation import judges
from self_evaluation.reading.synthetic import probe

from rain_decoding.backends.directions import Direction
from rain_decoding.backends.transformers import wrap
from rain_decoding.backends.transformers.layers import decoder_layers
from rain_decoding.prompting import build_prompt
from rain_decoding.self_evaluation.reading import strength as module
from rain_decoding.self_evaluation.reading.examples import everyday_requests
from rain_decoding.self_evaluation.reading.probe import Wary
from rain_decoding.self_evaluation.reading.strength import (
    ANSWERS,
    EVERY,
    FIRST,
    LENGTH,
    MOST,
    NEAR,
    steering,
    strength_for,
)

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
        for number in range(LENGTH):
            if number and tokens[-1] in backend.codec.eos:
                break
            if number % EVERY == 0:
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
    tried: list[float] = []

    def nowhere(strength: float) -> Direction:
        tried.append(strength)
        return Direction((LAYER,), nothing, strength)

    assert strength_for(backend, nowhere, 0.25) in tried and max(tried) <= MOST


def test_what_leaves_no_number_moves_all(loaded: tuple[Any, Any]) -> None:
    """Where the strength that is tried first is far too much, a smaller one is found."""
    model, backend = loaded

    def wild(strength: float) -> Direction:
        usual = towards(model, strength)
        return usual if strength < FIRST else replace(usual, strength=float("nan"))

    strength = strength_for(backend, wild, 0.01)
    assert 0 < strength < FIRST and share(model, backend, towards(model, strength)) <= 0.011


def test_only_what_lies_beyond_the_most_probable_is_not_seen(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, backend = loaded
    monkeypatch.setattr(module, "TOP", 150)  # of 330, nearly as probable as each other
    strength = strength_for(backend, lambda strength: towards(model, strength), 0.25)
    assert 0.1 < share(model, backend, towards(model, strength)) < 0.5


@pytest.mark.parametrize("wary", [False, True])
def test_it_is_found_once_for_each_line(
    loaded: tuple[Any, Any], wary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, backend = loaded
    draw, width = np.random.default_rng(7), model.config.hidden_size
    main, careful = draw.normal(size=(2, 1, 2 * width))
    shared = {"bias": 0.0, "patience": 0.0, "slope": 1.0, "intercept": 0.0, "threshold": 0.0}
    line = Wary(pooling="mean", weights=careful, request=np.zeros((1, width)), request_bias=0.0, **shared)
    found = probe(layers=(LAYER,), weights=main, wary=line if wary else None)
    along = steering(backend, found, 0.2)
    for harmful in (0.0, 1.0):
        assert abs(share(model, backend, along(harmful)) - 0.2) <= NEAR * 0.2 + 1e-3
    ends = along(0.0).strength, along(1.0).strength
    assert along(0.25).strength == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])
    assert (ends[0] != ends[1]) is wary
    monkeypatch.setattr(module, "strength_for", None)  # a second time nothing is tried
    assert steering(backend, found, 0.2)(1.0).strength == ends[1]


def test_a_model_that_no_request_fits_into_is_tried_with_none(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, backend = loaded
    monkeypatch.setattr(backend, "context_length", 2)
    assert strength_for(backend, lambda strength: towards(model, strength), 0.25) == FIRST
