"""`EndpointBackend`: requests of the search as HTTP requests, all at once, in one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import itertools
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rain_decoding.backends.arrivals import Arrivals
from rain_decoding.backends.base import (
    Capabilities,
    Closing,
    Codec,
    Counters,
    Handle,
    Reply,
    cannot_shift,
    check_layers,
    check_request,
    closed,
)
from rain_decoding.backends.dialogue import header_or_default
from rain_decoding.backends.directions import Direction
from rain_decoding.backends.endings import why_ended
from rain_decoding.backends.openai.chat import chat
from rain_decoding.backends.openai.client import Meter
from rain_decoding.backends.openai.endpoint import Endpoint
from rain_decoding.backends.openai.labels import Labels
from rain_decoding.backends.openai.proposals import Proposals
from rain_decoding.backends.openai.streams import Consumer, Reader, ReplyStream, way_of
from rain_decoding.errors import (
    BackendError,
    ContextLengthError,
    EndpointError,
    RainError,
    UnsupportedError,
)
from rain_decoding.turns import Shared, in_turn
from rain_decoding.types import (
    UNBIASED,
    BackendRequest,
    Chat,
    Decode,
    Decoded,
    LabelProbabilities,
    Layer,
    LogitBias,
    Message,
    Sample,
    Tokens,
    TopTokens,
    Unanswered,
)

Result = TypeVar("Result")

CHECK_SECONDS = 5.0
"""Time for the reply to `check`."""


class Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rain-endpoint", daemon=True).start()

        self._stopped = False

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run this in the loop. Raises `UnsupportedError` once it was stopped."""
        if self._stopped:
            work.close()
            raise closed("the model")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last`, then end the thread. Does not wait for it."""
        ending = self.start(last)
        self._stopped = True
        ending.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))


@dataclass(eq=False)
class Work:
    """What runs in the event loop for one request, and for others like it that came meanwhile."""

    request: BackendRequest
    handles: list[Handle]
    running: Future[None] | None = None


class EndpointBackend(Shared, Closing):
    """A model behind HTTP (see `backends.base`). Tokens are counted by what the server says."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        loop: Loop,
        counters: Counters,
        *,
        criteria_dirs: Iterable[Path] = (),
        dialogue_header: str | None = None,
        affinity: int = 1024,
    ):
        self.name, self.endpoint = name, endpoint
        self.codec: Codec = endpoint.codec
        facts = endpoint.facts
        self.context_length = facts.context_length
        url = endpoint.client.replicas[0].url
        decisions = f"{facts.decisions}:{url}#{facts.model}" if facts.decisions else ""
        self.capabilities = Capabilities(chat=True, decisions=decisions)
        self.counters = counters
        self.criteria_dirs = tuple(criteria_dirs)
        self.dialogue_header = header_or_default(dialogue_header)
        self.engine_options: Mapping[str, Any] = {}
        self._affinity = affinity
        self._loop = loop
        self._owners = itertools.count(1)
        self._keys: dict[int, str] = {}
        self._working: list[Work] = []
        self._streams: list[ReplyStream] = []
        self._ready: list[Reply] = []
        self._arrivals = Arrivals()
        self._uncharged: Counter[int] = Counter()
        """Tokens that streams of an owner produced and nobody took."""
        self._said: set[str] = set()
        self._hang_up = weakref.finalize(self, loop.stop, endpoint.client.close())

    kept_layers: tuple[Layer, ...] = ()
    fingerprint = ""
    """A server does not say what it runs."""

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """Not available: raises `UnsupportedError`."""
        check_layers(self.name, layers)

    def shift_along(self, direction: Direction) -> int:
        """Not available: raises `UnsupportedError`."""
        raise cannot_shift(self.name)

    @property
    def others(self) -> tuple[str, ...]:
        """Further models that its server lists, as `load_backend` takes them."""
        address = self.name.partition("#")[0]
        return tuple(f"{address}#{name}" for name in self.endpoint.facts.others)

    @property
    def pending(self) -> int:
        asked = sum(len(work.handles) for work in self._working)
        return asked + sum(stream.consumer is not None for stream in self._streams) + len(self._ready)

    @in_turn
    def new_owner(self) -> int:
        return next(self._owners)

    @in_turn
    def submit(self, request: BackendRequest, owner: int) -> Handle:
        if not self._hang_up.alive:
            raise closed(self.name)
        check_request(self, request)
        if isinstance(request, TopTokens | Sample | Decode):
            self._check_bias(request.logit_bias)
        if not isinstance(request, Chat):
            self.endpoint.prompt(request.prefix)  # raises where it cannot be continued
        handle = Handle(request, owner)
        self._say_what_is_worked_around(request)
        if isinstance(request, Decode):
            self._decode(handle, request)
        elif twin := self._twin(handle):
            twin.handles.append(handle)
        else:
            work = Work(request, [handle])
            self._working.append(work)
            work.running = self._loop.start(self._answer(work, self._meter(handle)))
        return handle

    def _twin(self, handle: Handle) -> Work | None:
        """What already asks for the same: a text and the same text with its end are judged by the same prompts."""
        if not isinstance(handle.request, LabelProbabilities):
            return None
        same = (work for work in self._working if work.request == handle.request)
        return next((work for work in same if work.handles[0].owner == handle.owner), None)

    async def _answer(self, work: Work, meter: Meter) -> None:
        """Work on a request in the event loop; what comes of it is handed to `step`."""
        value: Any = None
        error: Exception | None = None
        try:
            match request := work.request:
                case TopTokens():
                    value = await Proposals(self.endpoint, meter).top_tokens(request)
                case Sample():
                    value = await Proposals(self.endpoint, meter).sample(request)
                case LabelProbabilities():
                    value = await self._label_probabilities(request, meter)
                case Chat():
                    value = await chat(self.endpoint, request, meter)
        except RainError as raised:
            error = raised
        except Exception as raised:
            error = _unexpected(self.name, raised)
        self._arrivals.put(lambda: self._done(work, value, error))

    def _done(self, work: Work, value: Any, error: Exception | None) -> None:
        if work in self._working:  # else it was cancelled
            self._working.remove(work)
            for handle in work.handles:
                self._reply(Reply(handle, value, error))

    async def _label_probabilities(self, request: LabelProbabilities, meter: Meter) -> Any:
        try:
            return await Labels(self.endpoint, request, meter, self._say_later).probabilities()
        except (EndpointError, ContextLengthError) as error:
            return Unanswered(str(error), unreached=isinstance(error, EndpointError))

    def _meter(self, handle: Handle) -> Meter:
        """Counts for the handle. What belongs to one owner goes to one server, so that it finds its prefix cached."""
        if handle.owner not in self._keys:
            text = self.codec.decode(handle.request.prefix).removeprefix(self.dialogue_header.strip())
            self._keys[handle.owner] = text[: self._affinity]
        return Meter(self.counters, handle, self._keys[handle.owner])

    def _decode(self, handle: Handle, request: Decode) -> None:
        limit = min(request.max_tokens, self.context_length - len(request.prefix))
        if reason := why_ended(self.codec, request, request.prefix, limit, 0):
            self._ready.append(Reply(handle, Decoded((), reason)))  # type: ignore[arg-type]
            return
        own = [stream for stream in self._streams if stream.owner == handle.owner]
        stream = next((stream for stream in own if stream.serves(request)), None)
        if stream is None:
            if request.horizon:
                for left in own:
                    if left.consumer is None:
                        self._abort(left)
            stream = self._open(handle, request, limit)
        place = stream.place_of(request.prefix)
        assert place is not None
        stream.consumer = Consumer(handle, stream, request, limit, place)
        self._advance(stream)

    def _open(self, handle: Handle, request: Decode, limit: int) -> ReplyStream:
        wanted = min(max(limit, request.horizon), self.context_length - len(request.prefix))
        stream = ReplyStream(handle.owner, request.prefix, way_of(request), wanted)
        reader = Reader(self.endpoint, stream, self._meter(handle), request.seed, self._arrivals.put)
        stream.reading = self._loop.start(reader.run())
        self._streams.append(stream)
        return stream

    @in_turn
    def step(self) -> list[Reply]:
        """Wait for the first thing that arrives, for `arrivals.PATIENCE` at most, and return what is ready.

        Other threads have their turn while this one waits.
        """
        waiting = bool(self._working) or any(stream.consumer for stream in self._streams)
        if waiting and not self._ready:
            self._arrivals.wait()
        self._arrivals.take()
        for stream in list(self._streams):
            self._advance(stream)
        replies, self._ready = self._ready, []
        if replies:
            self._arrivals.tell_sleepers()
        return replies

    def wake(self) -> None:
        self._arrivals.wake()

    def check(self) -> None:
        """Have one token generated."""
        hello = [Message("user", "Hello")]
        by_text = self.endpoint.facts.completions
        text = hello[0].content if by_text else self.codec.render_chat(hello, thinking=False)
        path, body = self.endpoint.body(self.codec.encode(text, start=by_text), max_tokens=1)
        asked = self.endpoint.client.once(path, body, meter=Meter(self.counters), seconds=CHECK_SECONDS)
        self._loop.start(asked).result()

    def _advance(self, stream: ReplyStream) -> None:
        """Let the stream's consumer take what has arrived, and reply when that is all it wants."""
        if (consumer := stream.consumer) is None:
            return
        before = stream.used
        consumer.advance(self.endpoint)
        self._charge(consumer.handle, stream.used - before + stream.prompt_cost)
        stream.prompt_cost = 0
        if consumer.reason is None and stream.error is None:
            return
        stream.consumer = None
        error = stream.error
        if consumer.reason is not None and consumer.handle.decoded:
            error = None  # it has all it wants; who wants more will meet the error
        value = None if error else consumer.value()
        self._reply(Reply(consumer.handle, value, error))
        if not consumer.request.horizon or stream.error or consumer.reason == "stop":
            self._abort(stream)

    def _charge(self, handle: Handle, tokens: int) -> None:
        handle.forwarded += tokens
        self.counters.tokens_forwarded += tokens

    def _reply(self, reply: Reply) -> None:
        reply.handle.forwarded += self._uncharged.pop(reply.handle.owner, 0)
        self._ready.append(reply)

    def _abort(self, stream: ReplyStream) -> None:
        """Close the connection, so that the server stops; what nobody took is charged to the owner's next reply."""
        if stream in self._streams:
            self._streams.remove(stream)
        if stream.reading is not None and not stream.reading.done():
            stream.reading.cancel()
        left = len(stream.tokens) - stream.used + stream.prompt_cost
        self.counters.tokens_forwarded += left
        self._uncharged[stream.owner] += left

    @in_turn
    def cancel(self, handle: Handle) -> None:
        for work in [work for work in self._working if handle in work.handles]:
            work.handles.remove(handle)
            if not work.handles:
                self._working.remove(work)
                assert work.running is not None
                work.running.cancel()
        for stream in list(self._streams):
            if stream.consumer is not None and stream.consumer.handle is handle:
                self._abort(stream)
        self._ready = [reply for reply in self._ready if reply.handle is not handle]

    @in_turn
    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        kept = list(prefixes)
        for stream in list(self._streams):
            if stream.owner == owner and not any(map(stream.agrees_with, kept)):
                self._abort(stream)

    @in_turn
    def finish(self, owner: int, keep: Iterable[Tokens] = ()) -> None:
        for handle in [handle for work in self._working for handle in work.handles if handle.owner == owner]:
            self.cancel(handle)
        for stream in [stream for stream in self._streams if stream.owner == owner]:
            self._abort(stream)
        self._keys.pop(owner, None)
        self._uncharged.pop(owner, None)

    def pin(self, tokens: Tokens) -> None:
        """The server caches what it sees fit."""

    def clear(self) -> None:
        """The server's cache is its own."""

    @in_turn
    def close(self) -> None:
        """See `Backend.close`."""
        handles = [handle for work in self._working for handle in work.handles]
        handles += [stream.consumer.handle for stream in self._streams if stream.consumer is not None]
        for handle in handles:
            self.cancel(handle)
        for stream in list(self._streams):
            self._abort(stream)
        self._ready += [Reply(handle, error=closed(self.name)) for handle in handles]
        self._hang_up()

    def _check_bias(self, bias: LogitBias) -> None:
        if bias.tokens:
            raise UnsupportedError(
                f"logit_bias is not supported by {self.name}: only the text of its tokens is known here, not their ids",
                hint="omit logit_bias, or load the model with hf: or gguf:",
            )
        if bias != UNBIASED:
            raise UnsupportedError(
                f"frequency_penalty and presence_penalty are not supported by {self.name}: its server counts anew "
                "wherever a search goes on",
                hint="omit them, or load the model with hf: or gguf:",
            )

    def _say_what_is_worked_around(self, request: BackendRequest) -> None:
        facts = self.endpoint.facts
        match request:
            case TopTokens() if not facts.logprobs:
                self._say("the server lists no token probabilities: they are estimated as shares of samples")
            case TopTokens(count=count) if count > facts.logprobs:
                self._say(f"the server lists {facts.logprobs} tokens, not the {count} asked for")
            case Sample(seeds=seeds) if len(seeds) > 1 and facts.samples_per_request == 1:
                self._say("the server does not support n: each sample is a separate request")
            case Sample(top_k=top_k) | Decode(top_k=top_k) if top_k and not facts.top_k:
                self._say("the server ignores top_k: samples are drawn from all tokens")
            case Decode() if not facts.logprobs:
                self._say(
                    "the server lists no token probabilities: alternatives are tried in the order proposed"
                )

    def _say_later(self, what: str) -> None:
        self._arrivals.put(lambda: self._say(what))

    def _say(self, what: str) -> None:
        """Warn once per backend."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"{self.name}: {what}", stacklevel=4)


def _unexpected(name: str, error: Exception) -> BackendError:
    failed = BackendError(f"{name}: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
