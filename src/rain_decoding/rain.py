"""RAIN as a session: joins the pure search with self-evaluation, embeddings, streaming, budgets and trace."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rain_decoding.config import SearchConfig
from rain_decoding.randomness import derive_seed
from rain_decoding.safety_net import DEFAULT_REFUSAL, SafetyNet
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.outer_loop import Committed, commit, search
from rain_decoding.search.stopping import best_child
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.verify_first import Rewound, release_good, verify_first
from rain_decoding.self_evaluation.embedding import Embedder
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.session import Session
from rain_decoding.text_stream import TextStream
from rain_decoding.types import (
    Await,
    Commit,
    Completion,
    Decode,
    Decoded,
    Drop,
    Embed,
    FinishReason,
    Judge,
    Launch,
    Stop,
    Tokens,
)
from rain_decoding.version import __version__

THINKING_START, THINKING_END = "<think>", "</think>"


@dataclass(eq=False, kw_only=True)
class RainSession(Session):
    """One prompt searched by RAIN."""

    config: SearchConfig
    criterion: str
    """Name of what the judge judges by."""
    judge: ConversationEvaluator
    embedder: Embedder | None
    refusal: str = DEFAULT_REFUSAL

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tree: Tree | None = None
        self.net = SafetyNet(self)
        if self.options.trace:
            self.trace.append(
                {
                    "event": "start",
                    "version": __version__,
                    "model": self.backend.name,
                    "criterion": self.criterion,
                    "config": asdict(self.config),
                    "seed": self.options.seed,
                    "messages": [asdict(message) for message in self.prompt.messages],
                }
            )

    def completion(self, reason: FinishReason) -> Completion:
        if self.tree:
            self.usage.simulations, self.usage.rewinds = self.tree.simulations, self.tree.rewinds
        completion = super().completion(reason)
        self.net.apply(completion, self.refusal)
        if self.options.trace:
            self.trace.append(
                {
                    "event": "end",
                    "text": completion.text,
                    "finish_reason": reason,
                    "score": completion.score,
                    "parts": dict(completion.parts),
                    "flagged": completion.flagged,
                    "fallback": completion.fallback,
                    "withheld": completion.withheld,
                    "usage": asdict(completion.usage),
                }
            )
        return completion

    def steps(self) -> Generator[Any, Any, FinishReason]:
        self.tree = tree = self._tree()
        try:
            reason = yield from self._search(tree)
        except Interrupted as interrupted:
            reason = interrupted.reason
        if reason == "budget":
            yield from self._answer(tree, self._salvage(tree))
        self.complete = True
        return reason if reason == "cancelled" else (yield from self.net.settle(reason))

    def last_commit(self) -> Commit | None:
        if self.net.holds:
            return None
        if self.net.fallback == "refusal":
            return Commit(self.refusal, (), 0.0, 0.0, 0)
        last = super().last_commit()
        held = self.config.fallback != "flag"
        return replace(last, tokens=self.answer) if last and held else last

    def finish(self) -> None:
        super().finish()
        self.judge.close()

    def kept_sequences(self) -> Iterable[Tokens]:
        """Also what the judge has read of the conversation."""
        yield from super().kept_sequences()
        yield from self.judge.held(self.backend.codec.decode(self.answer))

    def _tree(self) -> Tree:
        return Tree(
            self.prompt.tokens,
            self.config,
            seed=self.options.seed,
            max_tokens=self.limit,
            stop=Stop(self.prompt.markers, len(self.prompt.tokens)),
            record=self.record if self.options.trace else None,
        )

    def _search(self, tree: Tree) -> Generator[Any, Any, FinishReason]:
        """Run the search of this strategy on the tree."""
        strategy = verify_first if self.config.strategy == "verify-first" else search
        return (yield from self._answer(tree, strategy(tree)))

    def _answer(self, tree: Tree, running: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Drive a part of the search: answer its requests and pass on its commits."""
        reply: Any = None
        while True:
            try:
                request = running.send(reply)
            except StopIteration as stop:
                return stop.value
            match request:
                case Committed():
                    reply = None
                    if step := self._commit(tree):
                        yield step
                case Judge():
                    reply = yield from self.judged(self.judge, request.tokens)
                    self.net.see(request.tokens, reply)
                case Rewound():
                    reply = None
                    self._forget_beside(request.node)
                case Launch():
                    reply = yield Launch(self._answer(tree, request.program))
                case Await() | Drop():
                    reply = yield request
                case Embed():
                    assert self.embedder is not None
                    reply = yield from self.embedder.embed(request, len(self.prompt.tokens))
                case _:
                    (reply,) = yield [request]

    def _commit(self, tree: Tree) -> Commit | None:
        """Release the committed text, if it is not held, and give back the memory of what it leaves behind."""
        node, step = tree.root, None
        if self.net.holds:
            self.answer += node.token_set.tokens
        else:
            step = self.commit(
                node.token_set.tokens, value=node.value, visits=node.visits, simulations=tree.simulations
            )
        self._forget_beside(node)
        return step

    def _forget_beside(self, node: Node) -> None:
        """Give back the memory of what is not on the path to `node`, nor below it."""
        answer = self.backend.codec.decode(node.tokens[len(self.prompt.tokens) :])
        self.backend.retain(self.owner, [node.tokens, *self.judge.held(answer)])
        self.judge.retain(answer)

    def _salvage(self, tree: Tree) -> Generator[Committed, None, None]:
        """Where a budget ends the search, go on as far as the text was judged good."""
        if self.config.strategy == "verify-first":
            yield from release_good(tree)
            return
        while (best := best_child(tree.root)) and best.value >= 0 and not tree.finished(tree.root):
            yield commit(tree, best)

    def record(self, event: dict[str, Any]) -> None:
        """Add an event to the trace, if there is one, with the text of its tokens."""
        if not self.options.trace:
            return
        decode = self.backend.codec.decode
        for part in (event, *event.get("children", ()), event.get("child", {})):
            if "tokens" in part:
                part["text"] = decode(part["tokens"])
        self.trace.append(event)


@dataclass(eq=False, kw_only=True)
class ThinkingSession(RainSession):
    """Lets a reasoning model reason by plain sampling first; the answer after the closing tag is searched."""

    def steps(self) -> Generator[Any, Any, FinishReason]:
        prompt = self.prompt
        decoded: Decoded
        (decoded,) = yield [
            Decode(
                prompt.tokens,
                self.limit,
                seed=derive_seed(self.options.seed, prompt.tokens, "reasoning"),
                stop=Stop((THINKING_END,), len(prompt.tokens)),
            )
        ]
        codec = self.backend.codec
        reasoning, ended, _ = codec.decode(decoded.tokens).partition(THINKING_END)
        self.reasoning = reasoning.strip().removeprefix(THINKING_START).strip()
        if not ended:
            return "stop" if decoded.reason == "stop" else "length"
        self.prompt = replace(
            prompt, tokens=prompt.tokens + decoded.tokens, text=prompt.text + codec.decode(decoded.tokens)
        )
        self.limit -= len(decoded.tokens)
        self.judge.prompt = self.prompt
        self.stream = TextStream(codec, self.prompt)
        return (yield from super().steps())
