"""Finds out at start, by a few tiny requests, what an endpoint can do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rain_decoding.backends.chat_template import CONTROL
from rain_decoding.backends.decisions import APIS, UNUSABLE, Api, Decide, body_of, read_reply
from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.facts import DEFAULT_CONTEXT, Facts, LabelRoute, ServerKind
from rain_decoding.backends.openai.tokenizer import Tokenizer
from rain_decoding.backends.openai.wire import BadReply, Choice, read_choices, read_cost, read_scores
from rain_decoding.errors import EndpointError, ModelNotFoundError, RainError, UnsupportedError
from rain_decoding.types import Message

PROMPT = "One, two, three, four,"
QUESTION = Decide("", [Message("user", "a")], "a", ("It is a letter.", "It is a number."), ((0, 1),))
LISTED = (64, 20, 5)
"""Numbers of most probable tokens to ask for, in this order. Some servers have a limit of 20, some of 5."""
SAMPLES = (64, 8, 2)
"""Numbers of continuations to ask for at once, in this order, where no limit is known."""
OWNERS: dict[str, ServerKind] = {
    "vllm": "vllm", "sglang": "sglang", "llamacpp": "llama-server", "library": "ollama",
}  # fmt: skip
"""From `owned_by` in /v1/models to the server."""
VERSIONS: dict[ServerKind, tuple[str, str]] = {
    "vllm": ("/version", "version"),
    "sglang": ("/get_server_info", "version"),
    "llama-server": ("/props", "build_info"),
    "ollama": ("/api/version", "version"),
    "tgi": ("/info", "version"),
}
"""Where a server says its version, and by which key."""


@dataclass
class Probe:
    """One round of questions. Questions that a server refuses are answered by what it lacks."""

    client: Client
    meter: Meter
    model: str
    facts: Facts = field(init=False)
    _others: tuple[str, ...] = ()
    _cached: bool = False
    """A reply said how much of its prompt was cached."""

    async def run(self, context_length: int | None = None) -> Facts:
        """All facts. Raises `EndpointError` where nobody answers, `ModelNotFoundError` for a wrong model."""
        card = await self._card()
        kind = await self._kind(card)
        named = self.model or str(card.get("id", ""))
        self.facts = Facts(named, kind, alias=str(card.get("root") or ""), others=self._others)
        details = await self._get(VERSIONS[kind][0]) if kind in VERSIONS else {}
        self._note(
            version=str(details.get(VERSIONS[kind][1], "")) if kind in VERSIONS else "",
            context_length=context_length or _context(card, details) or DEFAULT_CONTEXT,
            slots=int(details.get("total_slots") or 0),
        )
        await self._completions()
        self._note(tokenizer=await self._answers(self._tokenizer().ids(PROMPT)))
        await self._chat()
        self._note(labels=await self._label_route())
        if self.facts.labels == "samples":
            self._note(decisions=await self._decision_api())
        if not self.facts.completions and self.facts.chat == "none":
            raise UnsupportedError(
                f"{self.client.replicas[0].url} serves {self.facts.model} through neither completions nor chat",
                hint=self._meant() or "serve a model that generates text",
            )
        return self.facts

    def _meant(self) -> str:
        """What to try where the base URL looks incomplete."""
        url = self.client.replicas[0].url
        return "" if url.endswith("/v1") else f"did you mean {url}/v1?"

    def _note(self, **found: Any) -> None:
        self.facts = replace(self.facts, **found)

    async def _card(self) -> dict[str, Any]:
        """The model's entry in /v1/models, {} where there is no such list."""
        try:
            listed = (await self.client.get("models", meter=self.meter)).get("data") or []
        except (ModelNotFoundError, AttributeError):
            if not self.model:
                raise ModelNotFoundError(
                    f"{self.client.replicas[0].url} lists no models",
                    hint=self._meant() or "name the model: openai:BASE_URL#MODEL",
                ) from None
            return {}
        for card in listed:
            if not self.model or self.model in (card.get("id"), *(card.get("aliases") or ())):
                self._others = tuple(str(other.get("id")) for other in listed if other is not card)
                return card
        raise ModelNotFoundError(
            f"{self.client.replicas[0].url} does not serve the model {self.model!r}",
            hint=f"models there: {', '.join(str(card.get('id')) for card in listed) or 'none'}",
        )

    async def _kind(self, card: dict[str, Any]) -> ServerKind:
        if known := OWNERS.get(str(card.get("owned_by"))):
            return known
        for kind, (path, key) in VERSIONS.items():
            if key in await self._get(path):
                return kind
        return "unknown"

    async def _get(self, path: str) -> dict[str, Any]:
        """What is at a path of the server's root, {} for nothing."""
        try:
            found = await self.client.get(path, meter=self.meter)
        except RainError:
            return {}
        return found if isinstance(found, dict) else {}

    async def _completions(self) -> None:
        """Continuing a text: log-probabilities, `n`, `top_k`, seeds."""
        # Ollama wraps the prompt of /v1/completions into the chat template.
        greedy = None if self.facts.server == "ollama" else await self._complete(max_tokens=8, temperature=0)
        self._note(completions=greedy is not None, cached_tokens=self._cached)
        if greedy is None:
            return
        for listed in LISTED:
            found = await self._complete(logprobs=listed, temperature=0)
            if found and found[0].tokens and found[0].tokens[0].top:
                self._note(logprobs=listed)
                break
        await self._samples()
        hot: dict[str, Any] = {"max_tokens": 8, "temperature": 2}
        first, again = await self._complete(seed=1, **hot), await self._complete(seed=1, **hot)
        only: dict[str, Any] = {"top_k": 1, "min_p": 0.0, "repetition_penalty": 1.0}
        one, other = await self._complete(seed=1, **hot, **only), await self._complete(seed=2, **hot, **only)
        self._note(
            seed=bool(first and again and first[0].text == again[0].text),
            top_k=bool(one and other and one[0].text == other[0].text == greedy[0].text),
        )

    async def _samples(self) -> None:
        """How many continuations a request may ask for: servers that make several refuse more than they like."""
        for count in (self.facts.slots,) if self.facts.slots else SAMPLES:
            found = await self._complete(n=count, temperature=1)
            if found and len(found) == count:
                self._note(samples_per_request=count)
                break

    async def _complete(self, path: str = "completions", **parameters: Any) -> list[Choice] | None:
        """Choices of a tiny completion, None where the server refuses it."""
        body = {"model": self.facts.model, "max_tokens": 1, **parameters}
        if path == "completions":
            body["prompt"] = PROMPT

        def read(data: Any) -> list[Choice]:
            self._cached |= read_cost(data).cached is not None
            if not (choices := read_choices(data)):
                raise BadReply("the reply has no choices")
            return choices

        try:
            return await self.client.post(path, body, read, meter=self.meter)
        except EndpointError:
            raise
        except RainError:
            return None

    async def _chat(self) -> None:
        """Whether there is a chat template, and by which way it is used."""
        facts, tokenizer = self.facts, self._tokenizer()
        try:
            closed, opened = [
                await tokenizer.render([{"role": "user", "content": "a"}], thinking=thinking)
                for thinking in (False, True)
            ]
        except RainError:
            if facts.server == "sglang" or not facts.completions:
                await self._messages()
            return  # elsewhere a text is continued as it stands, and nobody says whether it is a chat model's
        if closed and not await self._foreign(closed):
            self._note(chat="render", thinking_switch=closed != opened)

    async def _messages(self) -> None:
        """Whether messages are answered, where no template can be seen."""
        server = self.facts.server
        for listed in ({"logprobs": True, "top_logprobs": 20}, {"logprobs": True, "top_logprobs": 5}, {}):
            found = await self._complete(
                "chat/completions", messages=[{"role": "user", "content": "a"}], **listed
            )
            if found is None:
                continue
            tops = [token.top for choice in found for token in choice.tokens]
            self._note(
                chat="prefill" if server in ("sglang", "ollama") else "plain",
                thinking_switch=server == "sglang",
                logprobs=self.facts.logprobs or (int(listed.get("top_logprobs", 0)) if any(tops) else 0),
            )
            talk = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]
            taken = await self._complete("chat/completions", messages=talk)
            self._note(system_role=taken is not None)
            return

    async def _foreign(self, rendered: str) -> bool:
        """Whether the template is not the model's own: it writes control tokens that are none to the model.

        llama-server renders by a template of its own where a model has none.
        """
        found = CONTROL.search(rendered)
        return found is not None and len(await self._tokenizer().ids(found[0])) > 1

    async def _label_route(self) -> LabelRoute:
        facts = self.facts
        listed: LabelRoute = "top_logprobs" if facts.logprobs else "samples"
        if not facts.tokenizer:
            return listed
        token = next(iter(await self._tokenizer().ids(" five")), None)
        if token is None:
            return listed
        if facts.server == "llama-server":
            return "logit_bias"
        if facts.server == "sglang":
            body = {"model": facts.model, "query": "", "items": [PROMPT], "label_token_ids": [token]}
            scored = self.client.post("/v1/score", body, read_scores, meter=self.meter)
            return "/v1/score" if await self._answers(scored) else listed
        if facts.server != "vllm":
            return listed
        named = await self._complete(logprobs=1, logprob_token_ids=[token], return_tokens_as_token_ids=True)
        if named and any(f"token_id:{token}" in (first.top or ()) for first in named[0].tokens[:1]):
            return "logprob_token_ids"
        allowed = await self._complete(logprobs=1, allowed_token_ids=[token], return_tokens_as_token_ids=True)
        kept = allowed and any(first.text == f"token_id:{token}" for first in allowed[0].tokens[:1])
        return "allowed_token_ids" if kept else listed

    async def _decision_api(self) -> Api | None:
        """In which form it answers questions with probabilities, if it does."""
        for api in APIS:
            body = {"model": self.facts.model, **body_of(api, QUESTION)}
            read = partial(_read_decision, api)
            if await self._answers(self.client.post(api, body, read, meter=self.meter)):
                return api
        return None

    async def _answers(self, asked: Any) -> bool:
        try:
            return bool(await asked)
        except RainError:
            return False

    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.client, self.facts, self.meter)


def _read_decision(api: Api, data: Any) -> bool:
    try:
        return bool(read_reply(api, QUESTION, data).size)
    except UNUSABLE as error:
        raise BadReply(f"the reply is no decision: {error!r}") from error


def _context(card: dict[str, Any], details: dict[str, Any]) -> int | None:
    """The context's length in tokens, where one of the servers says it."""
    settings = details.get("default_generation_settings") or {}
    found = settings.get("n_ctx") or card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx")
    return int(found or details.get("max_total_tokens") or 0) or None
