"""RAIN as a session: joins the pure search with self-evaluation, embeddings, streaming, budgets and trace."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.backends.chat_template import THINKING_END, THINKING_START
from rain_decoding.config import SearchConfig
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL, SafetyNet
from rain_decoding.decoding.session import Session
from rain_decoding.decoding.text_stream import TextStream
from rain_decoding.errors import UnsupportedError
from rain_decoding.prompting import opens_thinking
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.outer_loop import Committed, commit, search
from rain_decoding.search.randomness import derive_seed
from rain_decoding.search.stopping import best_child
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.verify_first import Rewound, release_good, verify_first
from rain_decoding.self_evaluation.embedding import Embedder
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
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

REASONING_PIECE = 64
"""Tokens of reasoning decoded at once: what a budget that ends meanwhile loses at most."""
OTHER_REASONING = ("<|channel|>", "[THINK]", "<|START_THINKING|>", "<seed:think>")
"""Control tokens of models that reason between other tags."""


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
        completion.warnings.extend(self._unseparated_reasoning(completion.text))
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

    def _unseparated_reasoning(self, answer: str) -> Iterable[str]:
        """What to say where reasoning may stand in the answer, and was judged as a part of it."""
        if answer.lstrip().startswith(THINKING_START):
            yield f"the answer begins with {THINKING_START}, which was judged as a part of it: use thinking=True"
        if self.prompt.format == "chat":
            for tag in sorted({*OTHER_REASONING}.intersection(self.backend.codec.special_texts)):
                yield f"the model may reason behind {tag}, which is not told apart from the answer"

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
            record=self.record if options.trace else None,
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


def check_tags(backend: Backend) -> None:
    """Raise `UnsupportedError` where the end of reasoning would leave no trace in the text."""
    codec = backend.codec
    if THINKING_END not in codec.decode(codec.encode(f"a{THINKING_END}", start=False)):
        raise UnsupportedError(
            f"{backend.name} writes {THINKING_END} as a control token, so its end cannot be told from the text",
            hint="turn thinking off",
        )


@dataclass(eq=False, kw_only=True)
class ThinkingSession(RainSession):
    """Lets a reasoning model reason first, by plain decoding; the answer after the closing tag is searched.

    Reasoning is sampled at temperature 1 unless the request has another. Where the prompt does not open it, the
    most probable beginning tells whether the model reasons at all. The judge never sees it, nor is it streamed.
    """

    def steps(self) -> Generator[Any, Any, FinishReason]:
        before = len(self.prompt.tokens)
        if opens_thinking(self.prompt.text) or (yield from self._begins_with_reasoning()):
            reason = yield from self._reason()
            if reason is not None:
                return reason
            prompt, codec = self.prompt, self.backend.codec
            self.prompt = replace(
                prompt,
                tokens=prompt.tokens + self.reasoning_tokens,
                text=prompt.text + codec.decode(self.reasoning_tokens),
            )
            self.limit -= len(self.prompt.tokens) - before
            self.judge.prompt = self.prompt
            self.stream = TextStream(codec, self.prompt)
        return (yield from super().steps())

    def _begins_with_reasoning(self) -> Generator[Any, Any, bool]:
        """Whether the model opens reasoning by itself; what it opens it with becomes `reasoning_tokens`."""
        prompt = self.prompt
        tokens: Tokens = ()
        while len(tokens) < min(self.limit, len(THINKING_START)):
            decoded: Decoded
            (decoded,) = yield [Decode(prompt.tokens + tokens, 1, logit_bias=self.options.bias)]
            tokens += decoded.tokens
            text = self.backend.codec.decode(tokens).lstrip()
            if text.startswith(THINKING_START):
                self.reasoning_tokens = tokens
                return True
            if decoded.reason == "stop" or not THINKING_START.startswith(text):
                break
        return False

    def _reason(self) -> Generator[Any, Any, FinishReason | None]:
        """Decode on to the closing tag. Returns why the text ends before it, if it does."""
        options, prompt = self.options, self.prompt
        temperature = 1.0 if options.temperature is None else options.temperature
        while (left := self.limit - len(self.reasoning_tokens)) > 0:
            text = prompt.tokens + self.reasoning_tokens
            decoded: Decoded
            (decoded,) = yield [
                Decode(
                    text,
                    min(REASONING_PIECE, left),
                    seed=derive_seed(options.seed, text, "reasoning") if temperature else None,
                    temperature=temperature or 1.0,
                    top_p=1.0 if options.top_p is None else options.top_p,
                    stop=Stop((THINKING_END,), len(prompt.tokens)),
                    logit_bias=options.bias,
                )
            ]
            self.reasoning_tokens += decoded.tokens
            reasoning, ended, _ = self.backend.codec.decode(self.reasoning_tokens).partition(THINKING_END)
            self.reasoning = reasoning.strip().removeprefix(THINKING_START).strip()
            if ended or decoded.reason == "stop":
                return None if ended else "stop"
        return "length"
