"""What an endpoint can do: found out by `probe`, read by everything else here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rain_decoding.backends.decisions import Api

ServerKind = Literal["vllm", "sglang", "llama-server", "ollama", "tgi", "unknown"]
ChatRoute = Literal["none", "render", "prefill", "plain"]
"""How a chat model is asked: not at all; in text that the server renders by its template; by messages whose last one
the server continues; by messages without that, so that only the beginning of an answer can be asked for."""
LabelRoute = Literal[
    "logprob_token_ids", "allowed_token_ids", "/v1/score", "logit_bias", "top_logprobs", "samples"
]
"""Where the probabilities of the judge's labels come from."""


DEFAULT_CONTEXT = 4096
"""Tokens, where a server does not say its context's length."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one server can do with one model."""

    model: str
    server: ServerKind = "unknown"
    version: str = ""
    alias: str = ""
    """What the server calls the model besides, such as its file."""
    others: tuple[str, ...] = ()
    """Further models that it lists."""
    context_length: int = DEFAULT_CONTEXT
    completions: bool = True
    """`/v1/completions` continues a text as it stands."""
    chat: ChatRoute = "none"
    samples_per_request: int = 1
    """The largest `n`."""
    logprobs: int = 0
    """Most probable tokens per position that it lists, 0 for none."""
    top_k: bool = False
    """`top_k`, `min_p` and `repetition_penalty` are taken, and `top_k` is kept to."""
    seed: bool = False
    """The same seed gives the same text."""
    tokenizer: bool = False
    """Token ids of a text can be asked for."""
    labels: LabelRoute = "samples"
    decisions: Api | None = None
    """In which form it answers questions with probabilities, where labels would be counted in samples."""
    thinking_switch: bool = False
    """The template knows `enable_thinking`."""
    cached_tokens: bool = False
    """Replies say how much of the prompt was cached."""
    system_role: bool = True
    """Messages may begin with one of the system."""
    slots: int = 0
    """Requests it works on at a time, where it says so."""

    @property
    def tempered_logprobs(self) -> bool:
        """Whether log-probabilities are those after the temperature (SGLang, sglang/srt/layers/sampler.py)."""
        return self.server == "sglang"

    @property
    def open_beginning(self) -> bool:
        """Whether a prompt can be sent without what the server puts at a sequence's beginning."""
        return self.server == "vllm"

    def described(self) -> str:
        """One sentence about what was found and which ways were chosen."""
        chat = {
            "none": "no chat template, prompts are texts",
            "render": "chats rendered by its template",
            "prefill": "chats as messages that it continues",
            "plain": "chats as messages, of which only the beginning of an answer can be asked for",
        }[self.chat]
        version = f" {self.version}" if self.version else ""
        server = "a server of a kind unknown here" if self.server == "unknown" else f"{self.server}{version}"
        return (
            f"{server}, model {self.model}, context of {self.context_length} tokens, {chat}, "
            f"labels by {self.decisions or self.labels}"
        )

    def lacks(self) -> list[str]:
        """What it cannot do, and what follows."""
        missing = [
            (True, "no hidden states: the model judges by being asked, it cannot be read"),
            (not self.seed, "no seeds: the same seed need not give the same text"),
            (
                self.labels == "samples" and not self.decisions,
                "no log-probabilities: the judge's labels are counted in samples, which costs requests",
            ),
            (not self.top_k, "no top_k: proposals are drawn as the server does by default"),
            (
                self.chat == "plain",
                "answers cannot be continued: the search can propose beginnings only",
            ),
            (not self.cached_tokens, "no count of cached tokens: costs count every prompt in full"),
        ]
        return [problem for missed, problem in missing if missed]

    def neutral(self) -> dict[str, Any]:
        """Parameters that switch off what a server or its model's `generation_config.json` would do by default."""
        plain = {"top_p": 1.0}
        if self.top_k:
            plain |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
        if self.server == "llama-server":
            plain |= {"repeat_penalty": 1.0, "cache_prompt": True, "timings_per_token": True}
        return plain
