"""The search tree: what is known of every token set tried so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rain_decoding.config import SearchConfig
from rain_decoding.search.randomness import derive_seed
from rain_decoding.types import UNBIASED, Array, Candidate, Judgement, LogitBias, Stop, Tokens, TokenSet

Recorder = Callable[[dict[str, Any]], None]
"""Receives trace events (see `rain_decoding.decoding.trace`)."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a text is decoded: behind the `prompt` in place of the conversation's own (empty: that one), with the logits
    behind the prompt `against` counting against it (empty: none), and its hidden states shifted along the direction
    `shift` (0: none) from the last token of the prompt on."""

    prompt: Tokens = ()
    against: Tokens = ()
    shift: int = 0


PLAIN = Manner()


@dataclass(eq=False, slots=True)
class Node:
    """A text reached by a path of token sets. Compared by identity.

    Paper symbols: `prior` p, `visits` n, `value` v in [-1, 1], `embedding` e `[dim]`; `evaluations` is the
    released code's `fn`. `tokens` is the whole sequence, prompt included; `depth` counts edges from the prompt.
    """

    id: int
    token_set: TokenSet
    tokens: Tokens
    depth: int
    parent: Node | None = None
    prior: float = 1.0
    visits: float = 0.0
    evaluations: int = 0
    value: float = 0.0
    embedding: Array | None = None
    score: float | None = None
    """The judgement of the text that ends here, where there was one without a rollout (verify first)."""
    children: list[Node] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    """Everything proposed here so far, newest proposals first (for widening)."""
    draws: int = 0
    """Token sets drawn here so far: the index of the next draw's seed."""
    kind: str = ""
    """The kind of proposal that it was (see `search.proposals`); empty: plain decoding's text."""
    manner: Manner = PLAIN
    """How decoding goes on from here."""
    turn: int | None = None
    """Tokens up to where its score turned, prompt included (verify first)."""
    tried: int = 0
    """As an alternative: how many had been tried by then, the others of its round included."""
    proposed: dict[str, int] = field(default_factory=dict)
    """Proposals made here so far, by kind; of what has no more to give, as many as it may."""
    expandable: bool = False
    """It was a leaf of a simulation once, so the next one goes through it."""
    expanded: bool = False
    pruned: bool = False
    """Nothing below it can be judged, or all of it is bad, so selection avoids it."""

    @property
    def siblings(self) -> Iterator[Node]:
        """The other children of its parent."""
        return (node for node in (self.parent.children if self.parent else ()) if node is not self)


class Tree:
    """A search tree for one prompt, with what its rules need to know.

    `limit` is the sequence length (prompt included, in tokens) from which a text counts as finished. Plain decoding
    draws at `temperature` (0: greedily), `top_k` (0: all) and `top_p`; `logit_bias` holds for all that is generated.
    With a `stride`, verify first judges plain decoding's text every so many tokens, wherever sentences end.
    `question_cost` is what the judge's question takes, in decoded tokens.
    """

    def __init__(
        self,
        prompt: Tokens,
        config: SearchConfig,
        *,
        seed: int,
        max_tokens: int,
        stop: Stop,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        logit_bias: LogitBias = UNBIASED,
        stride: int | None = None,
        question_cost: float = 0.0,
        record: Recorder | None = None,
    ):
        self.config = config
        self.seed = seed
        self.prompt_length = len(prompt)
        self.limit = len(prompt) + max_tokens
        self.stop = stop
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.logit_bias = logit_bias
        self.stride, self.question_cost = stride, question_cost
        self.root = Node(id=0, token_set=TokenSet(()), tokens=prompt, depth=0)
        self.simulations = 0
        self.rewinds = 0
        self.tried = 0
        """Alternatives proposed so far (verify first)."""
        self.harmful = 0.0
        """The probability that what is asked for is harmful, as a judge has read it (verify first)."""
        self._record = record
        self._next_id = 1

    def finished(self, node: Node) -> bool:
        """Whether the text ends at this node: end of sequence, marker or token limit."""
        return node.token_set.finished or len(node.tokens) >= self.limit

    def add_child(
        self, parent: Node, token_set: TokenSet, prior: float, *, kind: str = "", manner: Manner = PLAIN
    ) -> Node:
        """Append a child, which stands after its siblings."""
        child = Node(
            self._next_id,
            token_set,
            parent.tokens + token_set.tokens,
            parent.depth + 1,
            parent=parent,
            prior=prior,
            kind=kind,
            manner=manner,
        )
        self._next_id += 1
        parent.children.append(child)
        return child

    def seed_for(self, node: Node, purpose: str, index: int = 0) -> int:
        """The seed of one draw at a node; it does not depend on when the draw happens."""
        return derive_seed(self.seed, node.tokens, purpose, index)

    def commit(self, child: Node) -> None:
        """Make a child of the root the new root; it keeps its subtree and statistics, the siblings go."""
        self.root = child
        child.parent = None

    def record(self, event: str, **details: Any) -> None:
        """Hand one event to the recorder, if there is one."""
        if self._record:
            self._record({"event": event, **details})

    def record_judgement(self, node: Node, judgement: Judgement) -> None:
        """Record a judgement of the text that ends at `node` or in its rollout."""
        self.record(
            "judge",
            node=node.id,
            score=judgement.score,
            judged=judgement.text,
            probabilities=[list(order) for order in judgement.probabilities],
            problem=judgement.problem,
            remembered=judgement.remembered,
            **({"parts": dict(judgement.parts)} if judgement.parts else {}),
            **({"escalated": True} if judgement.escalated else {}),
            **({"harmful": round(judgement.harmful, 4)} if judgement.harmful else {}),
            **({"course": [round(score, 4) for score in judgement.course]} if judgement.course else {}),
        )

    def record_backup(self, nodes: Sequence[Node], score: float) -> None:
        """Record what a score made of the nodes it was credited to."""
        self.record(
            "backup",
            score=score,
            nodes=[
                {"id": node.id, "visits": node.visits, "evaluations": node.evaluations, "value": node.value}
                for node in nodes
            ],
        )
