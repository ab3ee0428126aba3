"""Answers that are judged whole: tool calls and outputs by a schema, which the model's own server makes.

A sentence of them means nothing, so nothing is searched: the server makes a whole message, it is judged, and where it
is bad another one is made, from another seed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.expansion import describe
from rain_decoding.search.outer_loop import commit
from rain_decoding.search.randomness import derive_seed
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Chat, Chatted, Commit, Completion, FinishReason, Judgement, TokenSet


def as_read(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A conversation in OpenAI's format as the judge reads it: calls and results as texts of assistant and user."""
    names = {call["id"]: call["function"]["name"] for message in messages for call in _calls(message)}
    turns = []
    for message in messages:
        role, text = message["role"], message.get("content") or ""
        if role == "assistant":
            text = spoken(message)
        elif role == "tool":
            role, text = "user", f"[{names.get(message.get('tool_call_id'), 'a tool')} returned] {text}"
        turns.append((role, text))
    # Chat templates may want the roles in turn.
    return [
        {"role": role, "content": "\n".join(text for _, text in group)}
        for role, group in groupby(turns, key=lambda turn: turn[0])
    ]


def spoken(message: Mapping[str, Any]) -> str:
    """What a message of the assistant says and calls."""
    calls = [
        f"[calls {call['function']['name']} with {call['function']['arguments']}]" for call in _calls(message)
    ]
    said = message.get("content") or message.get("refusal") or ""
    return "\n".join(part for part in (said, *calls) if part)


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return message.get("tool_calls") or ()


class Attempt(NamedTuple):
    """A message, its text in the tree, and what the judge says of it."""

    chatted: Chatted
    node: Node
    judgement: Judgement

    @property
    def rank(self) -> float:
        """Scores in order; what could not be judged is below all."""
        return -2.0 if self.judgement.score is None else self.judgement.score


@dataclass(eq=False, kw_only=True)
class WholeSession(RainSession):
    """Up to `SearchConfig.whole_attempts` messages, the first one drawn as asked for; the first good one is the answer.

    If none is good it is the best of them, flagged, or a refusal where the configuration's `fallback` says so.
    `body` goes to the server as it is: `messages`, `tools`, `response_format` and the like.
    """

    body: Mapping[str, Any]
    attempts: list[Attempt] = field(default_factory=list)
    message: Mapping[str, Any] | None = None
    """The answer."""

    def steps(self) -> Generator[Any, Any, FinishReason]:
        self.tree = tree = self._tree()
        reason: FinishReason = "stop"
        try:
            while len(self.attempts) < self.config.whole_attempts:
                if self.net.is_good((yield from self._attempt(tree)), reason):
                    break
        except Interrupted as interrupted:
            reason = interrupted.reason
        self.complete = True
        return reason if reason == "cancelled" else self._settle(tree, reason)

    def _attempt(self, tree: Tree) -> Generator[Any, Any, float | None]:
        """Have a message made and judged; its score."""
        if self.attempts:
            tree.rewinds += 1
            last = self.attempts[-1]
            tree.record("rewind", node=last.node.id, root=tree.root.id, score=last.judgement.score)
        body = {**self.body, **self._drawn(len(self.attempts))}
        chatted: Chatted
        (chatted,) = yield [Chat(self.prompt.tokens, body, self.prompt.thinking)]
        self.usage.prompt_tokens = chatted.prompt_tokens or self.usage.prompt_tokens
        tokens = self.backend.codec.encode(spoken(chatted.message), start=False)
        node = tree.add_child(tree.root, TokenSet(tokens, finished=True), 1 / self.config.whole_attempts)
        tree.record("expand", node=tree.root.id, children=[describe(node)])
        judgement = yield from self.judged(self.judge, node.tokens)
        tree.simulations += 1
        tree.record_judgement(node, judgement)
        self.attempts.append(Attempt(chatted, node, judgement))
        return judgement.score

    def _drawn(self, attempt: int) -> dict[str, Any]:
        """How the server is to draw: as asked for, and again otherwise."""
        options = self.options
        asked = options.temperature or 0.0
        drawn: dict[str, Any] = {
            "temperature": max(asked, self.config.candidate_temperature) if attempt else asked,
            "seed": derive_seed(options.seed, (), "whole", attempt) if attempt else options.seed,
            "max_tokens": self.limit,
        }
        optional = {
            "top_p": options.top_p,
            "stop": list(options.stop),
            "logit_bias": {str(token): value for token, value in options.bias},
        }
        return drawn | {name: value for name, value in optional.items() if value}

    def _settle(self, tree: Tree, reason: FinishReason) -> FinishReason:
        """Take the best message, or what stands in its place."""
        net, best = self.net, max(self.attempts, key=lambda attempt: attempt.rank, default=None)
        if best is not None:
            reason = "length" if best.chatted.finish == "length" else reason
            if best.judgement.score is None and self.config.on_unscored == "stop":
                reason = "unjudged"
            else:
                self.answer, self.message = best.node.token_set.tokens, best.chatted.message
                self.score, self.parts = best.judgement.score, best.judgement.parts
        net.flagged = not net.is_good(self.score, reason)
        if net.flagged and self.config.fallback == "refusal":
            net.flagged, net.fallback = False, "refusal"
            self.message = {"role": "assistant", "content": None, "refusal": self.refusal}
        elif self.message is not None and best is not None:
            commit(tree, best.node)
        net.settled = True
        return reason

    @property
    def completion_tokens(self) -> int:
        """As the server counts them, of all that was made."""
        return sum(attempt.chatted.completion_tokens for attempt in self.attempts)

    def last_commit(self) -> Commit | None:
        content = self.message["content"] if self.message else None
        return Commit(content, self.answer, self.score or 0.0, 0.0, len(self.attempts)) if content else None

    def completion(self, reason: FinishReason) -> Completion:
        completion = super().completion(reason)
        completion.message = self.message
        completion.reasoning = str((self.message or {}).get("reasoning_content") or "")
        return completion
