"""Bodies of Anthropic's Messages, and the chat that they ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from rain_decoding.server.protocols.chat import as_chat, tool, tool_call
from rain_decoding.server.schemas import (
    BY_TYPE,
    LIST,
    MOST_MESSAGES,
    MOST_PARTS,
    TEXT,
    AnswerBody,
    Body,
    ChatBody,
    Ignored,
    JsonObject,
    RainOptions,
    StopList,
    Text,
    check_neutral,
    either,
    part,
)
from rain_decoding.web.numbers import Number, Whole


class Block(Body):
    """What all blocks of a message share."""

    cache_control: Ignored = None


class TextBlock(Block):
    type: Literal["text"]
    text: Text
    citations: Ignored = None


class ToolUse(Block):
    type: Literal["tool_use"]
    id: Text
    name: Text
    input: JsonObject
    caller: Ignored = None

    @property
    def call(self) -> dict[str, Any]:
        """In the format of chats."""
        return tool_call(self.id, self.name, json.dumps(self.input, ensure_ascii=False))


TextBlocks = Annotated[list[Annotated[TextBlock, part("text")]], Field(fail_fast=True, max_length=MOST_PARTS)]
TextOrBlocks = Annotated[
    Annotated[Text, TEXT] | Annotated[TextBlocks, LIST], either("a text or a list of text blocks")
]


class ToolResult(Block):
    type: Literal["tool_result"]
    tool_use_id: Text
    content: TextOrBlocks = ""
    is_error: StrictBool | None = None

    @property
    def message(self) -> dict[str, Any]:
        """In the format of chats."""
        return {"role": "tool", "tool_call_id": self.tool_use_id, "content": text_of(self.content)}


class Thinking(Block):
    """Comes back with an answer, and is not read."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: Ignored = None
    signature: Ignored = None
    data: Ignored = None


def text_of(content: str | list[TextBlock]) -> str:
    """The text of what is one or has blocks of it."""
    return content if isinstance(content, str) else "".join(block.text for block in content)


BLOCKS = either("a text or a list of blocks")
MANY = Field(fail_fast=True, max_length=MOST_PARTS)
ATextBlock = Annotated[TextBlock, Tag("a text")]
UserBlock = Annotated[
    ATextBlock | Annotated[ToolResult, Tag("a tool_result")], BY_TYPE, part("text", "tool_result")
]
AnswerBlock = Annotated[
    ATextBlock
    | Annotated[ToolUse, Tag("a tool_use")]
    | Annotated[Thinking, Tag("a thinking")]
    | Annotated[Thinking, Tag("a redacted_thinking")],
    BY_TYPE,
    part("text", "tool_use", "thinking", "redacted_thinking"),
]


class UserMessage(Body):
    role: Literal["user"]
    content: Annotated[Annotated[Text, TEXT] | Annotated[list[UserBlock], MANY, LIST], BLOCKS]

    @property
    def chat(self) -> Iterator[dict[str, Any]]:
        """The messages of a chat that say it: a result of a tool is one of its own."""
        if isinstance(self.content, str):
            yield {"role": "user", "content": self.content}
            return
        yield from (block.message for block in self.content if isinstance(block, ToolResult))
        if texts := [block for block in self.content if isinstance(block, TextBlock)]:
            yield {"role": "user", "content": text_of(texts)}


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: Annotated[Annotated[Text, TEXT] | Annotated[list[AnswerBlock], MANY, LIST], BLOCKS]

    @property
    def chat(self) -> Iterator[dict[str, Any]]:
        """The message of a chat that says it."""
        if isinstance(self.content, str):
            yield {"role": "assistant", "content": self.content}
            return
        text = text_of([block for block in self.content if isinstance(block, TextBlock)])
        calls = [block.call for block in self.content if isinstance(block, ToolUse)]
        yield {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


def _message(value: Any) -> Any:
    """Says what a message is where it is none."""
    if not isinstance(value, dict) or value.get("role") not in ("user", "assistant"):
        raise PydanticCustomError("message", "must be an object whose role is user or assistant")
    return value


MessageOfTwo = Annotated[
    UserMessage | AssistantMessage, Field(discriminator="role"), BeforeValidator(_message)
]


class Tool(Body):
    name: Text = Field(min_length=1, max_length=128)
    description: Text | None = None
    input_schema: JsonObject
    type: Literal["custom"] | None = None
    strict: StrictBool | None = None
    cache_control: Ignored = None

    @property
    def chat(self) -> dict[str, Any]:
        """In the format of chats."""
        return tool(self.name, self.description, self.input_schema, self.strict)


class ToolChoice(Body):
    type: Literal["auto", "any", "none", "tool"]
    name: Text | None = None
    disable_parallel_tool_use: StrictBool | None = None

    @model_validator(mode="after")
    def _named(self) -> ToolChoice:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("name is required for the type tool, and allowed only there")
        return self

    @property
    def chat(self) -> Any:
        """In the format of chats."""
        if self.type == "tool":
            return {"type": "function", "function": {"name": self.name}}
        return "required" if self.type == "any" else self.type


class CountBody(Body):
    """`POST /v1/messages/count_tokens`."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        "thinking": ({"type": "disabled"},),
        "mcp_servers": ([],),
        "output_config": ({},),
    }

    model: str
    messages: list[MessageOfTwo] = Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)
    system: TextOrBlocks | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    rain: RainOptions = RainOptions()
    # Taken, and without effect on the answer.
    cache_control: Ignored = None
    # Taken at their neutral values only.
    thinking: SkipJsonSchema[Any] = None
    mcp_servers: SkipJsonSchema[Any] = None
    output_config: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> CountBody:
        check_neutral(self, self.honoured_if)
        return self

    def chat(self, **fields: Any) -> ChatBody:
        """The chat that it asks for, with these further fields. Raises `RequestValidationError`."""
        system = [{"role": "system", "content": text_of(self.system)}] if self.system else []
        choice = self.tool_choice
        serial = choice.disable_parallel_tool_use if choice else None
        return as_chat(
            model=self.model,
            messages=[*system, *(said for message in self.messages for said in message.chat)],
            tools=[tool.chat for tool in self.tools] if self.tools else None,
            tool_choice=choice.chat if choice else None,
            parallel_tool_calls=None if serial is None else not serial,
            rain=self.rain,
            **fields,
        )


class MessagesBody(CountBody, AnswerBody):
    """`POST /v1/messages`. `seed` is ours: their API has none."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        **CountBody.honoured_if,
        "container": (),
    }

    max_tokens: Whole = Field(ge=1, le=2**31)
    stop_sequences: StopList | None = None
    temperature: Number | None = Field(default=None, ge=0, le=1)
    top_k: Whole | None = Field(default=None, ge=0, le=2**31)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    seed: Whole | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: StrictBool | None = None
    # Taken, and without effect on the answer.
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    # Taken at its neutral value only.
    container: SkipJsonSchema[Any] = None

    @property
    def asked(self) -> ChatBody:
        """The chat that it asks for. Raises `RequestValidationError`."""
        return self.chat(
            max_tokens=self.max_tokens,
            stop=self.stop_sequences,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
            stream=self.stream,
        )
