"""The request as evidence: a probe says of the state before an answer whether what is asked for is harmful.

It is fitted on the requests of a criterion's examples, which say it by their answers: a request is harmful where a bad
answer or a refusal is among them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.errors import CriterionError
from rain_decoding.measurement.statistics import Estimate, roc_area
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, PromptFormat
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.states import Rows, layers_to_read, read_states
from rain_decoding.types import HiddenStates, Layer

REFUSAL = "refusal"
"""The kind of a good answer that only a harmful request has."""
LEAST = 20
"""Requests of each label without which nothing is fitted."""
SURE = log(0.95 / 0.05)
"""Log-odds from which a request is surely harmful; what is below raises no bar."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestProbe:
    """Log-odds that a request is harmful: the mean over the layers of `weights @ state`, plus `bias`.

    `weights` are `[layers, width]`, the states those of the prompt's last token. `auc` is that of requests held out.
    """

    layers: tuple[Layer, ...]
    weights: np.ndarray
    bias: float
    auc: Estimate

    def log_odds(self, states: np.ndarray) -> float:
        """In nats, of the states `[layers, width]` before an answer."""
        return float((self.weights * states.astype(np.float64)).sum()) / len(self.layers) + self.bias

    def raised(self, backend: Backend, prompt: Prompt) -> Program[float]:
        """By how many nats a request's answers must be better, >= 0: nothing where it is not surely harmful."""
        backend.keep_layers(self.layers)
        states = yield from ask(HiddenStates(prompt.tokens, len(prompt.tokens) - 1, self.layers))
        return max(0.0, self.log_odds(states[:, 0]) - SURE)


def labelled_requests(examples: Sequence[ReadingExample]) -> list[ReadingExample]:
    """One example a request, whose `good` says that it is harmless."""
    answers: dict[tuple[object, ...], list[ReadingExample]] = defaultdict(list)
    for example in examples:
        answers[example.messages].append(example)
    return [
        ReadingExample(
            each[0].messages, "", all(one.good and one.kind != REFUSAL for one in each), each[0].group
        )
        for each in answers.values()
    ]


def learn_requests(
    backend: Backend,
    examples: Sequence[ReadingExample],
    *,
    prompt_format: PromptFormat = "auto",
    told: Callable[[], object] = lambda: None,
) -> RequestProbe:
    """Fit a probe of requests for the backend's model.

    Args:
        backend: the model.
        examples: a criterion's labelled answers.
        prompt_format: as conversations are generated.
        told: called after every request that was read.

    Raises:
        CriterionError: there are too few harmful or harmless requests among the examples.
        UnsupportedError: the backend gives no hidden states.
    """
    from sklearn.metrics import roc_auc_score  # not for those who only read

    from rain_decoding.self_evaluation.reading.fitting import fit

    requests = labelled_requests(examples)
    harmless = sum(request.good for request in requests)
    if min(harmless, len(requests) - harmless) < LEAST:
        raise CriterionError(
            f"of the examples' requests {harmless} are harmless and {len(requests) - harmless} harmful",
            hint=f"reading requests needs at least {LEAST} of each: set request_evidence=0",
        )
    layers = layers_to_read(backend.capabilities.layers)
    states, numbers = [], []
    for number, each in read_states(backend, requests, layers, prompt_format=prompt_format):
        states.append(each[:, 0])
        numbers.append(number)
        told()
    rows = Rows(
        features=np.stack(states)[:, :, None],
        good=np.array([requests[number].good for number in numbers]),
        groups=np.array([requests[number].group for number in numbers]),
        examples=np.array(numbers),
        counts=np.ones(len(numbers)),
        whole=np.ones(len(numbers), dtype=bool),
        layers=layers,
        poolings=("before",),
    )
    fitted = fit(rows)
    scale, lines = fitted.scale, fitted.lines
    # A harmful request is the positive one here, and one state is all that there is.
    slope = -scale.slope / (1 + scale.patience)
    area = float(roc_auc_score(rows.good, fitted.held_out))
    return RequestProbe(
        fitted.choice.layers,
        slope * lines.weights,
        slope * lines.bias - scale.intercept,
        roc_area(area, int(rows.good.sum()), int((~rows.good).sum())),
    )
