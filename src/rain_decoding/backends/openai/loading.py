"""From the name of an endpoint to its backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from rain_decoding.backends.base import Counters
from rain_decoding.backends.openai.backend import EndpointBackend, Loop
from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.codec import Conversation, EndpointCodec
from rain_decoding.backends.openai.endpoint import ENDS, Endpoint
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.openai.probe import Probe
from rain_decoding.backends.openai.templates import Templates
from rain_decoding.backends.openai.tokenizer import Tokenizer
from rain_decoding.errors import ConfigError, EndpointTimeoutError, UnsupportedError

KEYS = ("RAIN_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the API key, the first one first."""
RENDER_SECONDS = 10.0
"""Time for a chat template to be rendered, which everybody waits for."""


def load(
    name: str,
    *,
    api_key: str | None = None,
    timeout: float = 120.0,
    attempts: int = 5,
    backoff: float = 0.5,
    max_connections: int | None = None,
    context_length: int | None = None,
    chat: bool | None = None,
    eos_token: str | None = None,
    affinity: int = 1024,
    criteria_dirs: Iterable[Path] | None = None,
    dialogue_header: str | None = None,
    known_models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> EndpointBackend:
    """Connect to `BASE_URL[,BASE_URL...]#MODEL` and find out what it can do; without #MODEL its first model.

    `api_key` None is that of the environment (`KEYS`). `timeout` > 0 in seconds bounds a reply, and of a streamed one
    the wait for its next part; a request is sent up to `attempts` >= 1 times, in distances that grow from about
    `backoff` seconds on; `max_connections` >= 1 are open at a time (None: as many as the servers work on, or 16 where
    they do not say). `context_length` in tokens is the server's unless given. `chat` False asks a chat model as if it
    had no template. `eos_token` is a further text by which the server lists the end of a sequence. Of several servers
    each conversation goes to the one that the first `affinity` characters of its prompt say. `criteria_dirs` and
    `dialogue_header` are those of `Backend`; `known_models` has those of models by the names that servers call them.

    Raises `ConfigError`, `ModelNotFoundError`, `EndpointError` where nobody answers, `UnsupportedError`.
    """
    for option, value in (("timeout", timeout), ("attempts", attempts), ("max_connections", max_connections)):
        if value is not None and value <= 0:
            raise ConfigError(f"{option} = {value!r}", hint="a number above 0")
    urls, _, model = name.partition("#")
    client = Client(
        _checked(urls.split(",")),
        api_key=_key() if api_key is None else api_key,
        timeout=timeout,
        attempts=attempts,
        backoff=backoff,
    )
    loop, counters = Loop(), Counters()
    meter = Meter(counters)
    try:
        facts = loop.start(Probe(client, meter, model).run(context_length)).result()
        _need_template(facts, chat)
    except BaseException:
        loop.stop(client.close())
        raise
    if connections := max_connections or facts.slots * len(client.replicas):
        client.limit(connections)
    tokenizer = Tokenizer(client, facts, meter)
    codec = _codec(loop, tokenizer, chat is not False and facts.chat != "none")
    ends = ENDS | ({eos_token} if eos_token else set())
    names = (facts.model, PurePath(facts.model).stem, facts.alias)
    known = next((known_models[name] for name in names if name in known_models), {})
    return EndpointBackend(
        f"openai:{urls}#{facts.model}",
        Endpoint(client, facts, codec, tokenizer, frozenset(ends)),
        loop,
        counters,
        criteria_dirs=known.get("criteria_dirs", ()) if criteria_dirs is None else criteria_dirs,
        dialogue_header=known.get("dialogue_header") if dialogue_header is None else dialogue_header,
        affinity=affinity,
    )


def ask(name: str) -> Facts:
    """What the endpoint `BASE_URL[#MODEL]` can do. Raises as `load`."""
    urls, _, model = name.partition("#")
    client, loop = Client(_checked(urls.split(",")), api_key=_key()), Loop()
    try:
        return loop.start(Probe(client, Meter(Counters()), model).run()).result()
    finally:
        loop.stop(client.close())


def _codec(loop: Loop, tokenizer: Tokenizer, has_template: bool) -> EndpointCodec:
    def rendered(conversation: Conversation) -> str:
        messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
        rendering = tokenizer.render(messages, thinking=conversation.thinking)
        try:
            return loop.start(asyncio.wait_for(rendering, RENDER_SECONDS)).result()
        except TimeoutError as error:
            raise EndpointTimeoutError(
                f"{tokenizer.facts.model}: its server rendered no chat template in {RENDER_SECONDS:g} seconds",
                hint="see whether the server runs and is not overloaded",
            ) from error

    renders = has_template and tokenizer.facts.chat == "render"
    return EndpointCodec(
        has_chat_template=has_template,
        render=Templates(rendered).render if renders else None,
        special_texts=sorted(ENDS - {""}),
    )


def _need_template(facts: Facts, chat: bool | None) -> None:
    if chat and facts.chat == "none":
        raise UnsupportedError(
            f"{facts.model} has no chat template that its server lets be used",
            hint="leave out the option chat",
        )


def _key() -> str:
    return next((os.environ[name] for name in KEYS if os.environ.get(name)), "")


def _checked(urls: list[str]) -> list[str]:
    """The base URLs. Raises `ConfigError` for what is none, and for a password in one, since names are shown."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"{url!r} is no base URL", hint="such as openai:http://127.0.0.1:8080/v1#MODEL")
        if parts.username or parts.password:
            raise ConfigError("a base URL holds a user name", hint="set RAIN_API_KEY instead")
    return urls
