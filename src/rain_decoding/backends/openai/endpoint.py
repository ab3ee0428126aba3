"""Prompts as request bodies: what is continued goes to the server as text or, where it has to, as messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.codec import END, START, EndpointCodec
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.openai.tokenizer import Tokenizer
from rain_decoding.backends.openai.wire import BadReply, Choice, Token, read_choices, read_cost
from rain_decoding.errors import InputError, RainError, RefusedError, UnsupportedError
from rain_decoding.types import Tokens

ENDS = frozenset(
    {"", "</s>", "<eos>", "<|end|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|return|>"}
    | {"<|end_of_text|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "[EOS]"}
)  # fmt: skip
"""Texts by which servers list the end of a sequence; llama-server writes control tokens as nothing."""
FAMILIES = frozenset(
    {"<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<mask>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}
    | {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]"}
    | {"[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[IMG]", "[THINK]", "[/THINK]"}
    | {"<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<start_function_call>"}
    | {"<end_function_call>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>"}
    | {"</think>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<file_sep>", "<repo_name>", "<seed:bos>"}
    | {"<seed:eos>", "<seed:think>", "</seed:think>", "<reserved_102>", "<reserved_103>", "[gMASK]", "<sop>"}
    | {"<extra_id_0>", "<extra_id_1>", "<unused0>", "<unused1>", "<|>", "<BOS_TOKEN>", "<EOS_TOKEN>"}
)  # fmt: skip
"""Control tokens of models whose tokenizer cannot be asked for its own, besides those in bars: <|im_start|>."""
LARGEST_SEED = 2**31
"""Seeds are cut to what all servers take."""


@dataclass(frozen=True)
class Endpoint:
    """One model behind a client."""

    client: Client
    facts: Facts
    codec: EndpointCodec
    tokenizer: Tokenizer
    ends: frozenset[str] = ENDS

    def prompt(self, prefix: Tokens) -> tuple[str, dict[str, Any]]:
        """The path that continues this prefix, and the part of the body that holds it.

        Raises `UnsupportedError` where an answer would have to be continued and the server cannot.
        """
        conversation = self.codec.conversation(prefix)
        model: dict[str, Any] = {"model": self.facts.model}
        if conversation is None:
            if not self.facts.completions:
                raise UnsupportedError(
                    f"{self.facts.model} is served for chat only and cannot continue plain text",
                    hint="use prompt_format='chat', or serve the model with /v1/completions",
                )
            body = model | {"prompt": self.codec.decode(prefix)}
            if self.facts.open_beginning and prefix[0] != START:
                body["add_special_tokens"] = False
            return "completions", body
        messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
        body = model | {"messages": messages}
        if self.facts.thinking_switch:
            body["chat_template_kwargs"] = {"enable_thinking": conversation.thinking}
        if begun := self.codec.decode(prefix[1:]):
            self._need_prefill()
            messages.append({"role": "assistant", "content": begun})
            if self.facts.server != "ollama":
                body |= {"add_generation_prompt": False, "continue_final_message": True}
        return "chat/completions", body

    def _need_prefill(self) -> None:
        if self.facts.chat != "prefill":
            raise UnsupportedError(
                f"{self.facts.model} is served without /v1/completions and cannot continue an answer that has "
                "begun, so its answers cannot be searched",
                hint="serve it with vLLM, SGLang or llama-server; it can still judge, by a criterion whose "
                "lead is empty, so that its reply begins with the label",
            )

    def body(self, prefix: Tokens, *, top: int = 0, **parameters: Any) -> tuple[str, dict[str, Any]]:
        """Path and body of a request; `top` asks for so many most probable tokens per position."""
        path, body = self.prompt(prefix)
        body |= self.facts.neutral() | parameters
        if top and self.facts.logprobs:
            listed = min(top, self.facts.logprobs)
            chat = path.startswith("chat")
            body |= {"logprobs": True, "top_logprobs": listed} if chat else {"logprobs": listed}
        return path, body

    async def complete(
        self,
        prefix: Tokens,
        meter: Meter,
        *,
        n: int = 1,
        top: int = 0,
        max_tokens: int = 1,
        **parameters: Any,
    ) -> list[Choice]:
        """`n` continuations of up to `max_tokens` tokens. What is missing in a reply makes it a failed one."""
        several = {"n": n} if n > 1 else {}
        path, body = self.body(prefix, top=top, max_tokens=max_tokens, **several, **parameters)

        def read(data: Any) -> list[Choice]:
            choices = read_choices(data)
            if len(choices) != n:
                raise BadReply(f"the reply has {len(choices)} choices instead of {n}")
            if "logprobs" in body and not all(choice.tokens or choice.finish == "stop" for choice in choices):
                raise BadReply("the reply lacks the log-probabilities that were requested")
            self._count(data, choices, prefix, meter)
            return choices

        try:
            return await self.client.post(path, body, read, meter=meter)
        except RefusedError as error:
            raise as_refused(path, error) from error

    def _count(self, data: Any, choices: list[Choice], prefix: Tokens, meter: Meter) -> None:
        """Add what the reply cost. Where it does not say, pieces count as tokens."""
        cost = read_cost(data)
        # llama-server counts one of several continuations only.
        new = max(cost.completion or 0, sum(len(choice.tokens) for choice in choices))
        meter.forwarded((len(prefix) if cost.prompt is None else cost.prompt) + (new or len(choices)))

    def token(self, token: Token) -> int:
        """The id of a listed token: its piece's, or the end of a sequence."""
        return END if token.text in self.ends else self.codec.intern(token.text)


def as_refused(path: str, error: RefusedError) -> RainError:
    """What a server's refusal means: of messages, that its chat template does not take them as the client sent them."""
    if not path.startswith("chat"):
        return error
    return InputError(f"the model's server rejects the request: {error.reason}")


def short(seed: int) -> int:
    """A seed that every server takes."""
    return seed % LARGEST_SEED
