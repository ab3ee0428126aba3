"""RAIN as a session: joins the pure search with self-evaluation, embeddings, streaming, budgets and trace."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rain_decoding.config import SearchConfig
from rain_decoding.randomness import derive_seed
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tree: Tree | None = None
        if self.options.trace:
            self.trace.append(
                {
                    "event": "start",
                    "version": __version__,
                    "model": self.backend.name,
                    "criterion": self.criterion,
                    "config": asdict(self.config),
                    "seed": self.options.seed,
                    "temperature": self.options.temperature,
                    "top_p": self.options.top_p,
                    "logit_bias": self.options.bias,
                    "messages": [asdict(message) for message in self.prompt.messages],
                }
            )

    def completion(self, reason: FinishReason) -> Completion:
        if self.tree:
            self.usage.simulations, self.usage.rewinds = self.tree.simulations, self.tree.rewinds
        completion = super().completion(reason)
        if self.options.trace:
            self.trace.append(
                {
                    "event": "end",
                    "text": completion.text,
                    "finish_reason": reason,
                    "score": completion.score,
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
        if self.answer and reason not in ("cancelled", "unjudged"):
            final = yield from self.judged(self.judge, self.prompt.tokens + self.answer)
            self.score = final.score
        return reason

    def kept_sequences(self) -> Iterable[Tokens]:
        """Also what the judge has read of the conversation."""
        yield from super().kept_sequences()
        yield from self.judge.held(self.backend.codec.decode(self.answer))

    def _tree(self) -> Tree:
        options = self.options
        return Tree(
            self.prompt.tokens,
            self.config,
            seed=options.seed,
            max_tokens=self.limit,
            stop=Stop(self.prompt.markers, len(self.prompt.tokens)),
            temperature=options.temperature or 0.0,
            top_p=1.0 if options.top_p is None else options.top_p,
            logit_bias=options.bias,
            record=self._record if options.trace else None,
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
                    yield self._commit(tree)
                case Judge():
                    reply = yield from self.judged(self.judge, request.tokens)
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

    def _commit(self, tree: Tree) -> Any:
        """Release the committed text and give back the memory of what it leaves behind."""
        node = tree.root
        step = self.commit(
            node.token_set.tokens, value=node.value, visits=node.visits, simulations=tree.simulations
        )
        self._forget_beside(node)
        return step

    def _forget_beside(self, node: Node) -> None:
        """Give back the memory of what is not on the path to `node`, nor below it."""
        judged = self.judge.held(self.backend.codec.decode(node.tokens[len(self.prompt.tokens) :]))
        self.backend.retain(self.owner, [node.tokens, *judged])

    def _salvage(self, tree: Tree) -> Generator[Committed, None, None]:
        """Where a budget ends the search, go on as far as the text was judged good."""
        if self.config.strategy == "verify-first":
            yield from release_good(tree)
            return
        while (best := best_child(tree.root)) and best.value >= 0 and not tree.finished(tree.root):
            yield commit(tree, best)

    def _record(self, event: dict[str, Any]) -> None:
        """Add an event to the trace, with the text of its tokens."""
        decode = self.backend.codec.decode
        for part in (event, *event.get("children", ()), event.get("child", {})):
            if "tokens" in part:
                part["text"] = decode(part["tokens"])
        self.trace.append(event)


@dataclass(eq=False, kw_only=True)
class ThinkingSession(RainSession):
    """Lets a reasoning model reason first, by plain decoding; the answer after the closing tag is searched.

    Reasoning is sampled at temperature 1 unless the request has another.
    """

    def steps(self) -> Generator[Any, Any, FinishReason]:
        prompt, options = self.prompt, self.options
        temperature = 1.0 if options.temperature is None else options.temperature
        seed = derive_seed(options.seed, prompt.tokens, "reasoning") if temperature else None
        decoded: Decoded
        (decoded,) = yield [
            Decode(
                prompt.tokens,
                self.limit,
                seed=seed,
                temperature=temperature or 1.0,
                top_p=1.0 if options.top_p is None else options.top_p,
                stop=Stop((THINKING_END,), len(prompt.tokens)),
                logit_bias=options.bias,
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
