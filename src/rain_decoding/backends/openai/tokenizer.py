"""The server's own tokenizer and chat template, where it lends them.

llama-server: `/tokenize` and `/apply-template` (tools/server/README.md of llama.cpp). vLLM: `/tokenize` of a prompt
or of messages, and `/detokenize` (vllm/entrypoints/serve/tokenize/protocol.py). SGLang: `/tokenize`
(`TokenizeRequest` in sglang/srt/entrypoints/openai/protocol.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.openai.wire import BadReply
from rain_decoding.bounded import BoundedCache
from rain_decoding.errors import UnsupportedError

LABELS_BYTES = 2**20
"""Of labels' tokens that are remembered."""
TAIL = 48
"""Characters before a label that are tokenized with it."""


@dataclass
class Tokenizer:
    """Asks the first server; all of them serve the same model."""

    client: Client
    facts: Facts
    meter: Meter
    _labels: BoundedCache[tuple[str, str], int] = field(
        default_factory=lambda: BoundedCache(LABELS_BYTES, lambda key, _: 2 * len(key[0] + key[1]))
    )

    async def ids(self, text: str) -> list[int]:
        """Token ids of a text, nothing put before it. Raises `UnsupportedError` where the server has no way."""
        if self.facts.server == "llama-server":
            body: dict[str, Any] = {"content": text, "add_special": False, "parse_special": True}
        elif self.facts.server in ("vllm", "sglang"):
            body = {"model": self.facts.model, "prompt": text, "add_special_tokens": False}
        else:
            raise UnsupportedError(
                "the server does not offer its tokenizer", hint="labels are matched by their text"
            )
        return await self.client.post("/tokenize", body, _ids, meter=self.meter)

    async def are_tokens(self, texts: Sequence[str]) -> list[bool]:
        """Of each text whether it is one token wherever it stands, as control tokens are. Raises as `ids`."""
        (before,), both = await self._all(["\n"]), await self._all([f"\n{text}" for text in texts])
        return [ids[: len(before)] == before and len(ids) == len(before) + 1 for ids in both]

    async def _all(self, texts: Sequence[str]) -> list[list[int]]:
        return list(await asyncio.gather(*map(self.ids, texts)))

    async def label_id(self, prompt: str, label: str) -> int:
        """The token that stands for `label` right after the prompt; remembered."""
        tail = prompt[-TAIL:]
        found = self._labels.get((tail, label))
        if found is None:
            before, both = await self.ids(tail), await self.ids(tail + label)
            follows = len(both) > len(before) and both[: len(before)] == before
            found = both[len(before)] if follows else (await self.ids(label))[0]
            self._labels.put((tail, label), found)
        return found

    async def render(self, messages: list[dict[str, str]], *, thinking: bool) -> str:
        """The messages by the server's chat template, up to the assistant's answer."""
        switch = {"enable_thinking": thinking}
        if self.facts.server == "llama-server":
            body: dict[str, Any] = {"messages": messages, "chat_template_kwargs": switch}
            return await self.client.post("/apply-template", body, _text_at("prompt"), meter=self.meter)
        if self.facts.server == "vllm":
            body = {"model": self.facts.model, "messages": messages, "add_generation_prompt": True}
            body["chat_template_kwargs"] = switch
            ids = await self.client.post("/tokenize", body, _ids, meter=self.meter)
            body = {"model": self.facts.model, "tokens": ids}
            return await self.client.post("/detokenize", body, _text_at("prompt"), meter=self.meter)
        raise UnsupportedError(
            "the server does not render chat templates", hint="messages are sent as they are"
        )


def _ids(data: Any) -> list[int]:
    try:
        return [int(token) for token in data["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadReply(f"the reply has no token ids: {error!r}") from error


def _text_at(key: str) -> Any:
    def read(data: Any) -> str:
        if not isinstance(data, dict) or not isinstance(data.get(key), str):
            raise BadReply(f"the reply has no {key}")
        return data[key]

    return read
