"""One streamed reply that serves one `Decode` after the other.

Verify first decodes sentence by sentence, plain decoding a few tokens at a time. Over HTTP all of it comes by one
request: where a `Decode` with a horizon ends, its stream goes on, and the next `Decode` finds what has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from rain_decoding.backends.base import Handle
from rain_decoding.backends.endings import why_ended
from rain_decoding.backends.openai.client import Meter
from rain_decoding.backends.openai.codec import END
from rain_decoding.backends.openai.endpoint import Endpoint, as_refused, short
from rain_decoding.backends.openai.wire import Choice, Token, pieces_of, read_choices, read_cost
from rain_decoding.backends.retries import Transient
from rain_decoding.errors import ContextLengthError, RefusedError
from rain_decoding.types import Decode, Decoded, Tokens

Way = tuple[bool, float, int, float]
"""How tokens are chosen: whether greedily, temperature, top_k, top_p."""


def way_of(request: Decode) -> Way:
    """Requests of one way may share a stream."""
    if request.seed is None:
        return True, 1.0, 0, 1.0
    return False, request.temperature, request.top_k, request.top_p


@dataclass(eq=False)
class ReplyStream:
    """A continuation of `start` that is arriving. Only the thread that steps the backend changes it."""

    owner: int
    start: Tokens
    way: Way
    wanted: int
    """Tokens that were asked for."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    error: Exception | None = None
    reading: Future[None] | None = None
    consumer: Consumer | None = None
    used: int = 0
    """Tokens that requests have taken."""
    prompt_cost: int = 0
    """Tokens of the prompt that the server forwarded, and nobody was charged for yet."""

    @property
    def over(self) -> bool:
        return self.finish is not None or self.error is not None

    def place_of(self, prefix: Tokens) -> int | None:
        """How many of the tokens `prefix` holds, if it is the start and then these."""
        taken = len(prefix) - len(self.start)
        if not 0 <= taken <= len(self.tokens) or prefix != self.start + tuple(self.tokens[:taken]):
            return None
        return taken

    def agrees_with(self, prefix: Tokens) -> bool:
        """Whether the text so far is a beginning of `prefix`, or the other way round."""
        text = self.start + tuple(self.tokens)
        length = min(len(text), len(prefix))
        return text[:length] == prefix[:length]

    def serves(self, request: Decode) -> bool:
        """Whether the request can go on with this stream."""
        place = self.place_of(request.prefix)
        if not request.horizon or self.consumer or self.error or self.way != way_of(request) or place is None:
            return False
        return self.finish != "length" or place < len(self.tokens)


@dataclass(eq=False)
class Consumer:
    """A `Decode` request that takes its tokens from a stream."""

    handle: Handle
    stream: ReplyStream
    request: Decode
    limit: int
    place: int
    """Where it begins in the stream's tokens."""
    logprob: float = 0.0
    reason: Literal["stop", "length", "ending"] | None = None

    def advance(self, endpoint: Endpoint) -> None:
        """Take what has arrived, as far as it is wanted. Sets `reason` when that is all."""
        stream, decoded = self.stream, self.handle.decoded
        while self.reason is None and self.place + len(decoded) < len(stream.tokens):
            at = self.place + len(decoded)
            decoded = (*decoded, stream.tokens[at])
            self.logprob += stream.logprobs[at]
            text = self.request.prefix + decoded
            self.reason = why_ended(endpoint.codec, self.request, text, self.limit, 1)  # type: ignore[assignment]
        self.handle.decoded = decoded
        stream.used = max(stream.used, self.place + len(decoded))
        if self.reason is None and stream.finish == "length":
            self.reason = "length"
            if not decoded:
                stream.error = ContextLengthError(
                    f"{endpoint.facts.model} has no room for another token in its context",
                    hint="shorten the prompt",
                )

    def value(self) -> Decoded:
        assert self.reason is not None
        return Decoded(self.handle.decoded, self.reason, self.logprob)


@dataclass
class Reader:
    """Reads a stream in the event loop, goes on behind what has arrived when it breaks, and hands on what comes.

    `deliver` gets callables that the stepping thread is to run.
    """

    endpoint: Endpoint
    stream: ReplyStream
    meter: Meter
    seed: int | None
    deliver: Callable[[Callable[[], None]], None]
    arrived: int = 0
    text: Tokens = ()
    held: tuple[Token, ...] = ()
    """Tokens whose text is still missing: parts of a character."""
    finish: str | None = None
    charged: int = 0

    async def run(self) -> None:
        """The whole stream; an error becomes the stream's."""
        self.text = self.stream.start
        try:
            await self.endpoint.client.persist(self._once)
        except Exception as error:
            self.deliver(lambda error=error: self._end(error))  # type: ignore[misc]
        else:
            self.deliver(lambda: self._end(None))

    async def _once(self) -> None:
        greedy, temperature, top_k, top_p = self.stream.way
        sampling: dict[str, Any] = {"temperature": 0.0 if greedy else temperature, "top_p": top_p}
        facts = self.endpoint.facts
        if top_k and facts.top_k:
            sampling["top_k"] = top_k
        if self.seed is not None:
            sampling["seed"] = short(self.seed + self.arrived)
        if facts.server in ("vllm", "sglang"):
            sampling["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        left = self.stream.wanted - self.arrived
        path, body = self.endpoint.body(self.text, top=1, max_tokens=left, stream=True, **sampling)
        self.held, self.charged = (), 0
        try:
            await self.endpoint.client.stream(path, body, self._receive, meter=self.meter)
        except RefusedError as error:
            raise as_refused(path, error) from error
        if self.finish is None:
            raise Transient("the stream ended before the text did")
        if not self.charged:
            self.deliver(lambda: self._charge(len(self.stream.start)))

    def _receive(self, event: Any) -> None:
        prompt = read_cost(event).prompt
        if prompt and not self.charged:
            self.charged = prompt
            self.deliver(lambda: self._charge(prompt))
        for choice in read_choices(event, streamed=True):
            self._take(choice)

    def _take(self, choice: Choice) -> None:
        tokens = self.held + choice.tokens
        self.held = tokens if tokens and not choice.text else ()
        pieces = pieces_of(Choice(choice.text, tokens, None)) if choice.text else []
        ids = [self.endpoint.codec.intern(token.text) for token in pieces]
        logprobs = [token.logprob or 0.0 for token in pieces]
        if choice.finish:
            self.finish = choice.finish
        if choice.finish == "stop":
            ids.append(END)
            known = [token.logprob for token in self.held if token.logprob is not None]
            logprobs.append(sum(known))
        self.text += tuple(ids)
        self.arrived += len(ids)
        if ids:
            self.deliver(lambda: self._extend(ids, logprobs))

    def _extend(self, ids: list[int], logprobs: list[float]) -> None:
        self.stream.tokens += ids
        self.stream.logprobs += logprobs

    def _charge(self, tokens: int) -> None:
        self.stream.prompt_cost += tokens

    def _end(self, error: Exception | None) -> None:
        self.stream.error = error
        if error is None:
            self.stream.finish = "stop" if self.finish == "stop" else "length"
