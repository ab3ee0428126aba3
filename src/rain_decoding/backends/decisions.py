"""A server that answers questions with probabilities, served like a backend: vLLM, SGLang, `rain serve` and others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import numpy as np
from tenacity import Retrying

from rain_decoding.api_keys import checked_key
from rain_decoding.backends.arrivals import Arrivals
from rain_decoding.backends.base import Closing, Counters, Handle, Reply, closed
from rain_decoding.backends.proxies import http_client
from rain_decoding.backends.retries import Transient, policy, refusal, retry_after, temporary
from rain_decoding.errors import BadReplyError, ConfigError, ContextLengthError, EndpointError, RainError
from rain_decoding.programs import Request
from rain_decoding.secrets_in_text import without_secrets
from rain_decoding.turns import Shared, in_turn
from rain_decoding.types import Array, Message, Unanswered

Api = Literal["systemone", "decisions"]
APIS: tuple[Api, ...] = ("systemone", "decisions")
ATTEMPTS = 4
PAUSE = 0.5
TIMEOUT = 120.0
"""Seconds for one attempt."""
AT_ONCE = 16
"""Requests that are under way at the same time."""
KEY = "RAIN_API_KEY"
NO_ANSWER = 422
"""The status by which System One says that it cannot answer; the other API has a refusal among its answers."""
UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading raises where a reply is no decision."""
ROUNDED = 1.001
"""What a probability may come to where servers add rounded ones."""


@dataclass(frozen=True, slots=True)
class Decide(Request[Array | Unanswered]):
    """Which of the `options` is true of a conversation, asked in each of the `orders`. `instructions` come first.

    `text` is the conversation in one piece: OpenAI's API takes the messages of a user alone.
    Reply: `numpy.ndarray` of float64, `[len(orders), 1 + len(options)]`: what the labels hold together (1 where the
    server does not say), then the probability of each option in the order of `options`; or `Unanswered`.
    """

    instructions: str
    messages: Sequence[Message]
    text: str
    options: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]


class DecisionServer(Shared, Closing):
    """Asks `model` at the base URL, in one of both APIs. Has of a backend what the scheduler needs."""

    def __init__(self, api: Api, url: str, model: str, *, transport: Any = None):
        self.api, self.model, self.name = api, model, f"{api}:{url}#{model}"
        key = checked_key(os.environ.get(KEY, ""), f"the key in {KEY}")
        base = url.rstrip("/").removesuffix("/v1") + "/v1/"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = http_client(
            httpx2.Client, [base], base_url=base, headers=headers, timeout=TIMEOUT, transport=transport
        )
        self.counters = Counters()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rain-decisions")
        self._pending: dict[Handle, Future[tuple[Array | Unanswered, int]]] = {}
        self._arrivals = Arrivals()

    @in_turn
    def submit(self, request: Any, owner: int) -> Handle:
        if self._client.is_closed:
            raise closed(self.name)
        handle = Handle(request, owner)
        handle.requests = 1
        self.counters.requests += 1
        future = self._pending[handle] = self._pool.submit(self._ask, request)
        future.add_done_callback(lambda _: self._arrivals.wake())
        return handle

    @in_turn
    def cancel(self, handle: Handle) -> None:
        if (future := self._pending.pop(handle, None)) is not None:
            future.cancel()

    @in_turn
    def close(self) -> None:
        """Give back threads and connections; those that are in use, once they are not. May be called again.

        Who waits for a reply, or asks later, is told by an `UnsupportedError`.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._pending = {handle: _failed(closed(self.name)) for handle in self._pending}
        self.wake()

    def wake(self) -> None:
        self._arrivals.wake()

    @in_turn
    def step(self) -> list[Reply]:
        """Wait for the first reply, for `arrivals.PATIENCE` at most, and return those that are there.

        Other threads have their turn while this one waits.
        """
        if self._pending:
            self._arrivals.wait()
        self._arrivals.take()
        ready = [handle for handle, future in self._pending.items() if future.done()]
        return [self._reply(handle, self._pending.pop(handle)) for handle in ready]

    def _reply(self, handle: Handle, future: Future[tuple[Array | Unanswered, int]]) -> Reply:
        try:
            found, handle.forwarded = future.result()
        except RainError as error:
            return Reply(handle, error=error)
        self.counters.tokens_forwarded += handle.forwarded
        return Reply(handle, found)

    def _ask(self, request: Decide) -> tuple[Array | Unanswered, int]:
        """The reply, and how many tokens the server says that it read. Raises what a `refusal` is."""
        try:
            return self._decided(request)
        except (EndpointError, ContextLengthError) as error:
            return Unanswered(str(error), unreached=isinstance(error, EndpointError)), 0

    def _decided(self, request: Decide) -> tuple[Array, int]:
        """As `_ask`, but an error where there is no answer."""
        body = {"model": self.model, **body_of(self.api, request)}
        try:
            response = Retrying(**policy(ATTEMPTS, PAUSE))(self._post, body)
        except Transient as error:
            raise EndpointError(f"{self.name} does not answer: {without_secrets(str(error))}") from error
        if not response.is_success:
            raise self._refused(response.status_code, without_secrets(response.text[:300]))
        try:
            data = response.json()
            return read_reply(self.api, request, data), int(data["usage"]["input_tokens"])
        except UNUSABLE as error:
            raise BadReplyError(f"{self.name}: the reply is no decision: {error!r}") from error

    def _refused(self, status: int, said: str) -> RainError:
        if status == NO_ANSWER:
            return BadReplyError(f"{self.name} has no answer: {said}")
        return refusal(status, f"{self.name} refuses the question ({status}): {said}", said)

    def _post(self, body: Mapping[str, Any]) -> httpx2.Response:
        """The response to one attempt. Raises `Transient` where another may do better."""
        try:
            response = self._client.post(self.api, json=body)
        except httpx2.HTTPError as error:
            raise Transient(f"{type(error).__name__}: {error}") from error
        if temporary(response.status_code):
            raise Transient(
                f"status {response.status_code}", retry_after(response.headers.get("Retry-After"))
            )
        return response


def body_of(api: Api, request: Decide) -> dict[str, Any]:
    """What is posted for a request, but for the model's name."""
    if api == "systemone":
        questions = {
            str(place): {
                "type": "choice",
                "instructions": "",
                "criteria": {request.options[index]: None for index in order},
            }
            for place, order in enumerate(request.orders)
        }
        state = [{"role": message.role, "content": message.content} for message in request.messages]
        return {"state": state, "instructions": request.instructions, "questions": questions}
    choices = [[{"value": request.options[index]} for index in order] for order in request.orders]
    return {
        "input": "\n\n".join(filter(None, (request.instructions, request.text))),
        "questions": [{"type": "choice", "instructions": "", "choices": each} for each in choices],
    }


def read_reply(api: Api, request: Decide, data: Any) -> Array:
    """The reply to the request. Raises one of `UNUSABLE` where it does not hold all its probabilities."""
    rows = []
    for place, _ in enumerate(request.orders):
        if api == "systemone":
            shares = data["answers"][str(place)]["probabilities"]
            mass = data.get("diagnostics", {}).get(str(place), {}).get("label_mass", 1.0)
        else:
            listed = data["answers"][place]["probabilities"]
            shares, mass = {entry["value"]: entry["probability"] for entry in listed}, 1.0
        rows.append([float(mass), *(float(shares[option]) for option in request.options)])
    found = np.array(rows)
    if not ((found >= 0) & (found <= ROUNDED)).all():  # nor may one be NaN
        raise ValueError(f"not all of {rows} are probabilities")
    return np.minimum(found, 1.0)


def _failed(error: RainError) -> Future[Any]:
    """What ended with an error."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def load_decision_server(name: str) -> DecisionServer:
    """The server of `API:URL#MODEL`. Raises `ConfigError` for a name of another form."""
    called, _, rest = name.partition(":")
    api = next(api for api in APIS if api == called)
    url, separator, model = rest.partition("#")
    if not separator or not model or not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"{name} names no server and model",
            hint=f"use one such as {api}:http://127.0.0.1:8000#MODEL",
        )
    return DecisionServer(api, url, model)
