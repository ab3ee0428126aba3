"""RAIN as a session: joins the pure search with self-evaluation, embeddings, streaming, budgets and trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from rain_decoding.backends.chat_template import THINKING_START
from rain_decoding.backends.directions import Direction
from rain_decoding.config import SearchConfig
from rain_decoding.decoding.degeneracy import why_no_answer
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL, FallbackSearch, Outcome
from rain_decoding.decoding.rewording import Rewording
from rain_decoding.decoding.session import Progress, Session, Steps
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.programs import Launch, Program, Request, ask, served
from rain_decoding.scheduler import Interrupted
from rain_decoding.search.outer_loop import Committed, Rewound, Searching, commit, search
from rain_decoding.search.stopping import best_child
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.verify_first import release_good, verify_first
from rain_decoding.self_evaluation.embedding import Embedder
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.types import (
    Commit,
    Completion,
    Embed,
    FinishReason,
    Judge,
    Judgement,
    Reword,
    Reworded,
    Stop,
    Tokens,
)
from rain_decoding.version import __version__

T = TypeVar("T")

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
    towards: Callable[[float], Direction] | None = None
    """What hidden states are shifted along for a request that is harmful with a probability; None: nothing does."""
    tree: Tree | None = None
    outcome: Outcome | None = None
    """What is returned, once that is settled."""
    seen: dict[Tokens, float] = field(default_factory=dict)
    """Scores of the texts that may become an alternative, prompt included."""

    @property
    def holds(self) -> bool:
        """Whether nothing may be released yet."""
        return self.config.fallback != "flag" and self.outcome is None

    @property
    def progress(self) -> Progress:
        found = super().progress
        return found._replace(rewinds=self.tree.rewinds) if self.tree else found

    def run(self) -> Steps[Completion]:
        self._record_start()
        return (yield from super().run())

    def completion(self, reason: FinishReason) -> Completion:
        if self.tree:
            self.usage.simulations, self.usage.rewinds = self.tree.simulations, self.tree.rewinds
        counters = self.backend.counters
        self.usage.prefix_tokens += counters.uncharged_prefix_tokens
        counters.uncharged_prefix_tokens = 0
        completion = super().completion(reason)
        completion.warnings.extend(self.rewording.warnings())
        completion.warnings.extend(self._unseparated_reasoning(completion.text))
        self._replace_text(completion)
        self._record_end(completion)
        return completion

    def _replace_text(self, completion: Completion) -> None:
        """Take what is withheld out of a completion."""
        outcome = self.outcome
        if outcome is not None:
            completion.flagged, completion.fallback = outcome.flagged, outcome.fallback
            completion.withheld = self._text(outcome.withheld.answer) if outcome.withheld else ""
        if self.holds:
            completion.withheld = completion.text
        if self.holds or completion.fallback == "refusal":
            completion.text = "" if self.holds else self.refusal
            completion.tokens, completion.score, completion.parts = (), None, {}

    def _text(self, answer: Tokens) -> str:
        return answer_text(self.backend.codec, self.prompt, answer)

    def _unseparated_reasoning(self, answer: str) -> Iterable[str]:
        """What to say where reasoning may stand in the answer, and was judged as a part of it."""
        if answer.lstrip().startswith(THINKING_START):
            yield f"the answer begins with {THINKING_START}, which was judged as a part of it: use thinking=True"
        if self.prompt.format == "chat":
            for tag in sorted({*OTHER_REASONING}.intersection(self.backend.codec.special_texts)):
                yield f"the model may reason behind {tag}, which is not told apart from the answer"

    def steps(self) -> Steps[FinishReason]:
        self.tree = tree = self.new_tree()
        strategy = verify_first if self.config.strategy == "verify-first" else search
        reason: FinishReason
        try:
            reason = yield from self._searched(tree, strategy(tree))
        except Interrupted as interrupted:
            reason = interrupted.reason
        if reason == "budget":
            yield from self._searched(tree, self._salvage(tree))
        self.complete = True
        return reason if reason == "cancelled" else (yield from self._settle(reason))

    def _settle(self, reason: FinishReason) -> Program[FinishReason]:
        """Have the finished answer judged, or replaced; why what is returned ends."""
        judged = partial(self.judged, self.judge)
        fallback = FallbackSearch(self.config, self.prompt, self.limit, judged, self.interruptible)
        outcome = yield from fallback.settle(self.answer, reason, self.seen)
        self.take(outcome)
        if self.config.fallback != "flag" and (outcome.flagged or outcome.withheld):
            bad = outcome.withheld or outcome
            withheld = self._text(bad.answer) if outcome.withheld else ""
            self.record(
                {"event": "fallback", "to": outcome.fallback, "score": bad.score, "withheld": withheld}
            )
        return outcome.reason

    def take(self, outcome: Outcome) -> None:
        """Let this be what is returned. In place of an answer that is refused no other one was generated."""
        self.outcome = outcome
        self.score, self.parts = outcome.score, outcome.parts
        generated = outcome.withheld if outcome.fallback == "refusal" and outcome.withheld else outcome
        self.answer = generated.answer

    def last_commit(self) -> Commit | None:
        if self.holds:
            return None
        if self.outcome is not None and self.outcome.fallback == "refusal":
            return Commit(self.refusal, ())
        last = super().last_commit()
        held = self.config.fallback != "flag"
        return replace(last, tokens=self.answer) if last and held else last

    def finish(self) -> None:
        super().finish()
        self.judge.close()

    def kept_sequences(self) -> Iterable[Tokens]:
        """Also what the judge has read of the conversation, and other prompts, which other conversations begin with."""
        yield from super().kept_sequences()
        yield from self.rewording.held(())
        yield from self.judge.held(self.backend.codec.decode(self.answer))

    def new_tree(self) -> Tree:
        options = self.options
        return Tree(
            self.prompt.tokens,
            self.config,
            seed=options.seed,
            max_tokens=self.limit,
            stop=Stop(self.prompt.markers, len(self.prompt.tokens)),
            temperature=options.temperature or 0.0,
            top_k=options.top_k or 0,
            top_p=1.0 if options.top_p is None else options.top_p,
            logit_bias=options.bias,
            stride=self.config.read_every if self.judge.free else None,
            question_cost=self._question_cost(),
            record=self.record if options.trace else None,
        )

    def _question_cost(self) -> float:
        """What the judge's question takes in decoded tokens; 0 where it is not asked for."""
        cost = self.backend.capabilities.prompt_token_cost
        return cost * self.judge.question_tokens if cost and self.config.trust_tokens else 0.0

    def _searched(self, tree: Tree, running: Searching[T]) -> Steps[T]:
        """Drive a part of the search: answer its requests and pass on its commits."""

        def serve(step: Request[object] | Committed | Rewound) -> Steps[object]:
            match step:
                case Committed():
                    if released := self._commit(tree):
                        yield released
                case Rewound():
                    self._forget_beside(step.node)
                case Request():
                    return (yield from self._reply(step))
            return None

        return (yield from served(running, serve))

    def _reply(self, request: Request[object]) -> Program[object]:
        """What the search gets for a request: of the judge, the embedder, the rewording, or the scheduler."""
        match request:
            case Reword():
                return self._reworded(request)
            case Judge() if (request.proposed or request.repaired) and (bad := self._degenerate(request)):
                return bad
            case Judge():
                judgement = yield from self.judged(self.judge, request.tokens)
                if self.config.fallback == "alternative" and judgement.score is not None:
                    self.seen[request.tokens] = judgement.score
                return judgement
            case Embed():
                assert self.embedder is not None
                return (yield from self.embedder.embed(request, len(self.prompt.tokens)))
            case Launch():
                return (yield from ask(Launch(served(request.program, self._reply))))
            case _:
                return (yield from ask(request))

    @cached_property
    def rewording(self) -> Rewording:
        """Other prompts for the answer."""
        return Rewording(self.backend, self.prompt, self.judge.guidance, self.limit, self.towards)

    def _reworded(self, request: Reword) -> Reworded | None:
        """The other prompt; the trace says once what there is none for."""
        known = set(self.rewording.lacking)
        reworded = self.rewording.reworded(request)
        for purpose in self.rewording.lacking.keys() - known:
            problem = self.rewording.lacking[purpose]
            self.record({"event": "lacking", "purpose": purpose, "problem": problem})
        return reworded

    def _degenerate(self, request: Judge) -> Judgement | None:
        """The judgement of a text that needs no judge, because it is no answer."""
        decode, start = self.backend.codec.decode, len(self.prompt.tokens)
        proposed = decode(request.tokens[-request.proposed :]) if request.proposed else None
        answer = decode(request.tokens[start:])
        problem = why_no_answer(answer, proposed, [message.content for message in self.prompt.messages])
        return Judgement(-1.0, answer, problem=problem) if problem else None

    def _commit(self, tree: Tree) -> Commit | None:
        """Release the committed text, if it is not held, and give back the memory of what it leaves behind."""
        node, step = tree.root, None
        if self.holds:
            self.answer += node.token_set.tokens
        else:
            step = self.commit(
                node.token_set.tokens, value=node.value, visits=node.visits, simulations=tree.simulations
            )
        self._forget_beside(node)
        return step

    def _forget_beside(self, node: Node) -> None:
        """Give back the memory of what is not on the path to `node`, nor below it."""
        tokens = node.tokens[len(self.prompt.tokens) :]
        answer = self.backend.codec.decode(tokens)
        held = [*self.judge.held(answer), *self.rewording.held(tokens)]
        self.backend.retain(self.owner, [node.tokens, *held])
        self.judge.retain(answer)

    def _salvage(self, tree: Tree) -> Searching[None]:
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

    def _record_start(self) -> None:
        event = {
            "event": "start",
            "version": __version__,
            "model": self.backend.name,
            "engine_options": dict(self.backend.engine_options),
            "criterion": self.criterion,
            "config": asdict(self.config),
            "seed": self.options.seed,
            "temperature": self.options.temperature,
            "top_k": self.options.top_k,
            "top_p": self.options.top_p,
            "logit_bias": self.options.bias.tokens,
            "frequency_penalty": self.options.frequency_penalty,
            "presence_penalty": self.options.presence_penalty,
            "messages": [asdict(message) for message in self.prompt.messages],
        }
        self.record(event)

    def _record_end(self, completion: Completion) -> None:
        event = {
            "event": "end",
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "score": completion.score,
            "parts": dict(completion.parts),
            "flagged": completion.flagged,
            "fallback": completion.fallback,
            "withheld": completion.withheld,
            "usage": asdict(completion.usage),
        }
        self.record(event)
