"""Tool calls and outputs by a schema, which the model's own server makes.

A sentence of them means nothing, so nothing is searched: the server makes a message, it is judged in one piece, and
where it is bad another one is made, from another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from rain_decoding.backends.base import Codec
from rain_decoding.control_text import broken_everywhere, strings_in
from rain_decoding.decoding.fallback import Outcome, judged_outcome, refused
from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Steps, total
from rain_decoding.programs import Program, ask
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.expansion import describe
from rain_decoding.search.outer_loop import commit
from rain_decoding.search.randomness import derive_seed
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Chat, Chatted, Commit, Completion, FinishReason, Judgement, TokenSet, rank

SHOWN = ("messages", "tools", "tool_choice", "response_format")
"""What of a request's body a server may put into the prompt."""


def without_control_text(body: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """A request's body with no control tokens in what the server may put into the prompt, names and keys included."""
    shown = {key: body[key] for key in SHOWN if key in body}
    return {**body, **broken_everywhere(shown, codec.control_texts_in(strings_in(shown)))}


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


@dataclass(eq=False, kw_only=True)
class ToolCallSession(RainSession):
    """Up to `SearchConfig.message_attempts` messages, the first drawn as asked for; the first good one is the answer.

    If none is good it is the best of them, flagged, or a refusal where the configuration's `fallback` says so.
    `body` goes to the server as it is: `messages`, `tools`, `response_format` and the like.
    """

    body: Mapping[str, Any]
    attempts: list[Attempt] = field(default_factory=list)
    message: Mapping[str, Any] | None = None
    """The answer."""

    def steps(self) -> Steps[FinishReason]:
        self.tree = tree = self.new_tree()
        reason: FinishReason = "stop"
        try:
            while len(self.attempts) < self.config.message_attempts:
                score = yield from self._attempt(tree)
                # Where a message cannot be judged, another one is not, either.
                if score is None or score > self.config.fallback_threshold:
                    break
        except Interrupted as interrupted:
            reason = interrupted.reason
        self.complete = True
        if reason == "cancelled":
            return reason
        best = max(self.attempts, key=lambda attempt: rank(attempt.judgement.score), default=None)
        outcome = self._outcome(best, reason)
        if outcome.flagged and self.config.fallback == "refusal":
            outcome = refused(outcome)
            self.message = {"role": "assistant", "content": None, "refusal": self.refusal}
        elif best is not None and outcome.reason != "unjudged":
            self.message = best.chatted.message
            commit(tree, best.node)
        self.take(outcome)
        return outcome.reason

    def _outcome(self, best: Attempt | None, reason: FinishReason) -> Outcome:
        """The best message as what is returned, or nothing where none may be."""
        if best is None:
            return judged_outcome((), None, reason, self.config)
        if best.chatted.finish == "length":
            reason = "length"
        if best.judgement.score is None and self.config.on_unscored == "stop":
            return judged_outcome((), None, "unjudged", self.config)
        return judged_outcome(best.node.token_set.tokens, best.judgement, reason, self.config)

    def _attempt(self, tree: Tree) -> Program[float | None]:
        """Have a message made and judged; its score."""
        if self.attempts:
            tree.rewinds += 1
            last = self.attempts[-1]
            tree.record("rewind", node=last.node.id, root=tree.root.id, score=last.judgement.score)
        body = {**self.body, **self._drawn(len(self.attempts))}
        chatted = yield from ask(Chat(self.prompt.tokens, body, self.prompt.thinking))
        if chatted.prompt_tokens is not None:
            self.usage.prompt_tokens = chatted.prompt_tokens
        tokens = self.backend.codec.encode(spoken(chatted.message), start=False)
        node = tree.add_child(tree.root, TokenSet(tokens, finished=True), 1 / self.config.message_attempts)
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
            "top_k": options.top_k,
            "top_p": options.top_p,
            "stop": list(options.stop or ()),
            "logit_bias": {str(token): value for token, value in options.logit_bias.items()},
            "frequency_penalty": options.frequency_penalty,
            "presence_penalty": options.presence_penalty,
        }
        return drawn | {name: value for name, value in optional.items() if value}

    @property
    def completion_tokens(self) -> int | None:
        """As the server counts them, of all that was made; None where it does not."""
        return total(attempt.chatted.completion_tokens for attempt in self.attempts)

    def last_commit(self) -> Commit | None:
        content = self.message["content"] if self.message else None
        if not content:
            return None
        return Commit(content, self.answer, self.score, simulations=len(self.attempts))

    def completion(self, reason: FinishReason) -> Completion:
        completion = super().completion(reason)
        completion.message = self.message
        completion.reasoning = str((self.message or {}).get("reasoning_content") or "")
        return completion
