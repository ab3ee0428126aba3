"""From the name of an endpoint to its backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from rain_decoding.api_keys import checked_key
from rain_decoding.backends.base import Counters
from rain_decoding.backends.openai.backend import EndpointBackend, Loop
from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.codec import Conversation, EndpointCodec
from rain_decoding.backends.openai.endpoint import ENDS, FAMILIES, Endpoint
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.openai.probe import Probe
from rain_decoding.backends.openai.templates import Templates
from rain_decoding.backends.openai.tokenizer import Tokenizer
from rain_decoding.errors import ConfigError, EndpointTimeoutError, RainError, UnsupportedError

KEYS = ("RAIN_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the API key, the first one first."""
RENDER_SECONDS = 10.0
"""Time for a chat template to be rendered, or a text to be tokenized, which everybody waits for."""


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
    """Connect to a model behind one or several OpenAI-compatible servers, and find out what they support.

    Args:
        name: `BASE_URL[,BASE_URL...][#MODEL]`; without a model, the first that the server lists.
        api_key: Key of the server; None: the first environment variable of `KEYS` that is set.
        timeout: Seconds for a reply, > 0; of a streamed one, for each of its parts.
        attempts: Times a request is sent at most, >= 1.
        backoff: Seconds before the second attempt, about; the waits grow from there.
        max_connections: Open connections at most, >= 1; None: the number of requests that the servers work on, else 16.
        context_length: Tokens per sequence; None: as the server says.
        chat: False: do not use the model's chat template; True: insist on it; None: use it where possible.
        eos_token: Another text by which the server lists the end of a sequence; None: the known ones.
        affinity: First characters of a prompt that choose among several servers.
        criteria_dirs: Folders of criteria that come with the model; None: those of `known_models`.
        dialogue_header: Text before the turns of the format `dialogue`; None: that of `known_models`, else built in.
        known_models: `criteria_dirs` and `dialogue_header` by the names that servers give to models known here.

    Returns:
        The backend, its first requests sent already.

    Raises:
        ConfigError: the name is not of this form, an option has an invalid value, or the key is not accepted.
        ModelNotFoundError: the server does not serve the model.
        EndpointError: no server answers.
        UnsupportedError: the server lacks what a decoder needs.
    """
    for option, value in (("timeout", timeout), ("attempts", attempts), ("max_connections", max_connections)):
        if value is not None and value <= 0:
            raise ConfigError(f"{option} = {value!r}", hint="use a number above 0")
    urls, _, model = name.partition("#")
    client = Client(
        _checked(urls.split(",")),
        api_key=_key() if api_key is None else checked_key(api_key, "the option api_key"),
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
                f"{tokenizer.facts.model}: its server did not render the chat template in {RENDER_SECONDS:g} seconds",
                hint="check that the server is running and not overloaded",
            ) from error

    def is_control(texts: Sequence[str]) -> Sequence[bool]:
        try:
            return loop.start(asyncio.wait_for(tokenizer.are_tokens(texts), RENDER_SECONDS)).result()
        except (TimeoutError, RainError):  # then all of them may be
            return [True] * len(texts)

    renders = has_template and tokenizer.facts.chat == "render"
    return EndpointCodec(
        has_chat_template=has_template,
        render=Templates(rendered).render if renders else None,
        system_role=tokenizer.facts.system_role,
        special_texts=sorted((ENDS | FAMILIES) - {""}),
        is_control=is_control if tokenizer.facts.tokenizer else None,
    )


def _need_template(facts: Facts, chat: bool | None) -> None:
    if chat and facts.chat == "none":
        raise UnsupportedError(
            f"{facts.model} has no chat template that can be used through its server",
            hint="omit the option chat",
        )


def _key() -> str:
    name = next((name for name in KEYS if os.environ.get(name, "").strip()), "")
    return checked_key(os.environ[name], f"the key in {name}") if name else ""


def _checked(urls: list[str]) -> list[str]:
    """The base URLs. Raises `ConfigError` for what is none, and for a password in one, since names are shown."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f"{url!r} is not a base URL", hint="use one such as openai:http://127.0.0.1:8080/v1#MODEL"
            )
        if parts.username or parts.password:
            raise ConfigError(
                "the base URL contains a user name", hint="remove it and set RAIN_API_KEY to the key"
            )
    return urls
