"""HTTP to one server or several that serve the same model: retries, timeouts, balancing with prefix affinity."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from tenacity import AsyncRetrying

from rain_decoding.backends.base import Counters, Handle
from rain_decoding.backends.openai.wire import BadReply, problem_in
from rain_decoding.backends.proxies import http_client, proxy_for
from rain_decoding.backends.retries import Transient, policy, refusal, retry_after, temporary
from rain_decoding.errors import BadReplyError, EndpointError, EndpointTimeoutError

Result = TypeVar("Result")

COOLING = 10.0
"""Seconds for which a server that failed is avoided, where another serves the model."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Counts requests and tokens for the backend, and for the request of the search that they serve.

    Requests with the same `key` go to the same server.
    """

    counters: Counters
    handle: Handle | None = None
    key: str = ""

    def sent(self) -> None:
        self.counters.requests += 1
        if self.handle is not None:
            self.handle.requests += 1

    def forwarded(self, tokens: int) -> None:
        self.counters.tokens_forwarded += tokens
        if self.handle is not None:
            self.handle.forwarded += tokens


@dataclass(eq=False, slots=True)
class Replica:
    """One base URL, such as http://127.0.0.1:8080/v1; avoided until `broken_until` (`time.monotonic`)."""

    url: str
    broken_until: float = 0.0

    def address(self, path: str) -> str:
        """Of a path below the base URL or, with a slash first, below the server's root."""
        base = self.url.removesuffix("/v1") if path.startswith("/") else self.url + "/"
        return base + path

    def weight(self, key: str) -> bytes:
        """Rendezvous hashing: of all replicas the one with the largest weight gets the key."""
        return hashlib.blake2b(f"{self.url}|{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Client:
    """Sends requests from within an event loop. Raises `EndpointError` when all attempts failed.

    `timeout` in seconds bounds a whole reply and, of a streamed one, the wait for its next part. A request is sent
    up to `attempts` times, in growing distances from about `backoff` seconds on; `max_connections` are open at a time,
    and waiting for one of them does not count as waiting for a reply.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        api_key: str = "",
        timeout: float = 120.0,
        attempts: int = 5,
        backoff: float = 0.5,
        max_connections: int = 16,
    ):
        self.replicas = [Replica(url.rstrip("/")) for url in urls]
        self.timeout, self.attempts, self.backoff = timeout, attempts, backoff
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._http = http_client(
            httpx2.AsyncClient,
            urls,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=httpx2.Timeout(timeout, connect=min(10.0, timeout), pool=None),
            limits=httpx2.Limits(max_connections=None),
        )
        self.limit(max_connections)

    def limit(self, connections: int) -> None:
        """Open no more connections than this at a time, from now on."""
        self._room = asyncio.Semaphore(connections)

    async def close(self) -> None:
        await self._http.aclose()

    async def post(
        self, path: str, body: dict[str, Any], read: Callable[[Any], Result], *, meter: Meter
    ) -> Result:
        """What `read` makes of the JSON reply; a `BadReply` of it counts as a failed attempt."""

        async def once() -> Result:
            return read(await self._reply(self._replica(meter.key), "POST", path, body, meter))

        return await self.persist(once)

    async def once(self, path: str, body: dict[str, Any], *, meter: Meter, seconds: float) -> Any:
        """The JSON reply of one attempt that may take so long. Raises `EndpointError`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reply(self._replica(meter.key), "POST", path, body, meter)
        except TimeoutError as error:
            raise EndpointTimeoutError(f"no reply in {seconds:g} seconds") from error
        except Transient as error:
            raise EndpointError(str(error)) from error
        except BadReply as error:
            raise BadReplyError(str(error)) from error

    async def get(self, path: str, *, meter: Meter) -> Any:
        """The JSON reply of the first server to GET."""

        async def once() -> Any:
            return await self._reply(self.replicas[0], "GET", path, None, meter)

        return await self.persist(once)

    async def stream(
        self, path: str, body: dict[str, Any], receive: Callable[[Any], None], *, meter: Meter
    ) -> None:
        """One attempt at a streamed reply: `receive` gets the events. Raises `Transient` where it breaks."""
        replica = self._replica(meter.key)
        try:
            async with self._room, asyncio.timeout(self.timeout) as deadline:
                meter.sent()
                async with self._http.stream("POST", replica.address(path), json=body) as response:
                    if response.status_code != 200:
                        await response.aread()
                        self._check(replica, response)
                    async for event in event_data(response.aiter_bytes()):
                        deadline.reschedule(asyncio.get_running_loop().time() + self.timeout)
                        if event == b"[DONE]":
                            break
                        receive(_no_error(json.loads(event)))
        except FAILURES as error:
            raise self._broken(replica, error) from error
        except UNUSABLE as error:
            raise _bad(replica, error) from error

    async def persist(self, once: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `once`, which is called again after a `Transient` or a `BadReply`."""
        # What one server asks for says nothing of the others.
        rules = policy(self.attempts, self.backoff, also=(BadReply,), heeds=len(self.replicas) == 1)
        retrying = AsyncRetrying(**rules, sleep=self._sleep)
        try:
            return await retrying(once)
        except (Transient, BadReply) as error:
            late = isinstance(error, Transient) and error.late
            bad = isinstance(error, BadReply)
            raise (EndpointTimeoutError if late else BadReplyError if bad else EndpointError)(
                f"no usable reply in {self.attempts} attempts; the last error: {error}",
                hint="check that the server is running and not overloaded, or raise the options timeout and attempts",
            ) from error

    async def _reply(
        self, replica: Replica, method: str, path: str, body: dict[str, Any] | None, meter: Meter
    ) -> Any:
        try:
            async with self._room, asyncio.timeout(self.timeout):
                meter.sent()
                response = await self._http.request(method, replica.address(path), json=body)
            self._check(replica, response)
            return _no_error(response.json())
        except FAILURES as error:
            raise self._broken(replica, error) from error
        except UNUSABLE as error:
            raise _bad(replica, error) from error

    def _replica(self, key: str) -> Replica:
        """Of the servers that work the one that has the key; if none works, all the same."""
        now = time.monotonic()
        return max(self.replicas, key=lambda replica: (replica.broken_until <= now, replica.weight(key)))

    def _check(self, replica: Replica, response: httpx2.Response) -> None:
        """Raise what a status code other than 200 means."""
        if response.status_code == 200:
            return
        problem = f"{response.status_code} from {replica.url}: {_said(response)}"
        if temporary(response.status_code):
            replica.broken_until = time.monotonic() + COOLING
            raise Transient(problem, retry_after(response.headers.get("Retry-After")))
        raise refusal(response.status_code, problem, _said(response))

    def _broken(self, replica: Replica, error: Exception) -> Transient:
        replica.broken_until = time.monotonic() + COOLING
        if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
            return Transient(f"no reply from {replica.url} in {self.timeout:g} seconds", late=True)
        proxy = proxy_for(replica.url)
        by = f" by the proxy {proxy}" if proxy and isinstance(error, httpx2.TransportError) else ""
        return Transient(f"{replica.url}{by}: {error or type(error).__name__}")

    async def _sleep(self, seconds: float) -> None:
        await self.sleep(seconds)


FAILURES = (OSError, httpx2.HTTPError, httpx2.StreamError)
"""What says that a server does not work."""
UNUSABLE = (BadReply, ValueError, RecursionError)
"""What says that one reply cannot be used."""


def _bad(replica: Replica, error: Exception) -> BadReply:
    said = error if isinstance(error, BadReply) else f"the reply is not JSON ({error})"
    return BadReply(f"{replica.url}: {said}")


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, line by line. Lines end at CR and LF only: JSON may hold other separators."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = re.split(rb"[\r\n]", rest + chunk)
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def _no_error(data: Any) -> Any:
    """The data, unless it is an error although the status says otherwise."""
    if isinstance(data, dict) and data.get("error"):
        raise BadReply(problem_in(data))
    return data


def _said(response: httpx2.Response) -> str:
    try:
        return problem_in(response.json())
    except ValueError:
        return problem_in(response.text)
