"""Sentences as token sets: plain decoding's next one, and proposals to put in the place of bad ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, sqrt

from rain_decoding.programs import Program, ask
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import UNSHIFTED, Decode, Judge, Judgement, Shift, Stop, Tokens, TokenSet


@dataclass(frozen=True, slots=True)
class Sentence:
    """A proposed continuation; `probability` in (0, 1] is the geometric mean over its tokens."""

    token_set: TokenSet
    probability: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """How an alternative is made: `opening` tokens and their log-probability, continued by `decode`.

    The text goes on in this `manner`, unless the proposal `finishes` it.
    """

    parent: Node
    decode: Decode
    manner: Manner
    opening: Tokens = ()
    logprob: float = 0.0
    finishes: bool = False


def propose(
    tree: Tree,
    node: Node,
    opening: Tokens = (),
    logprob: float = 0.0,
    *,
    manner: Manner | None = None,
    seed: int | None = None,
    finishes: bool = False,
) -> Proposal:
    """A sentence after a node that begins with `opening` and is continued greedily, or drawn by `seed`.

    Without a `manner` it is decoded as the node's own text.
    """
    manner = node.manner if manner is None else manner
    return Proposal(node, _decode(tree, node, opening, manner, seed), manner, opening, logprob, finishes)


def plain_sentence(tree: Tree, node: Node) -> Program[Sentence]:
    """Plain decoding's next sentence after a node, or several that are worth a question, or as many tokens as the
    tree's stride."""
    left = tree.limit - len(node.tokens)
    decode = replace(_decode(tree, node, (), node.manner, None), horizon=left)
    if (more := worth_judging(tree, node) - decode.min_tokens) > 0:
        decode = replace(
            decode, min_tokens=decode.min_tokens + more, max_tokens=min(decode.max_tokens + more, left)
        )
    if tree.stride:
        decode = replace(decode, max_tokens=min(tree.stride, left), endings="", min_tokens=0)
    if tree.temperature:
        seed = tree.seed_for(node, "plain")
        decode = replace(decode, seed=seed, temperature=tree.temperature, top_k=tree.top_k, top_p=tree.top_p)
    return (yield from _complete(Proposal(node, decode, node.manner)))


def worth_judging(tree: Tree, node: Node) -> int:
    """Tokens of plain decoding after a node from which a judgement is worth its question.

    Text that has been good for n tokens goes wrong in the next one with probability h = 1 / (n + trust) or so (rule of
    succession). Judged every L tokens it costs c / L a token for questions, and h L / 2 for what was decoded in vain;
    the sum is least at L = sqrt(2 c / h).
    """
    trust = tree.config.trust_tokens
    if not trust or tree.rewinds:
        return 0
    return round(sqrt(2 * tree.question_cost * (len(node.tokens) - tree.prompt_length + trust)))


def alternative(proposal: Proposal, seen: set[Tokens]) -> Program[tuple[Sentence, Judgement] | None]:
    """Complete a proposal and have it judged; None for one that was `seen`."""
    sentence = yield from _complete(proposal)
    tokens = sentence.token_set.tokens
    if not tokens or tokens in seen:
        return None
    seen.add(tokens)
    return sentence, (yield from ask(Judge(proposal.parent.tokens + tokens, len(tokens))))


def text_before(tree: Tree, node: Node, manner: Manner) -> tuple[Tokens, Stop, Shift]:
    """What is decoded on from at a node, what ends it, and what is shifted."""
    prompt = manner.prompt or node.tokens[: tree.prompt_length]
    shift = Shift(manner.shift, len(prompt) - 1) if manner.shift else UNSHIFTED
    return prompt + node.tokens[tree.prompt_length :], replace(tree.stop, start=len(prompt)), shift


def _decode(tree: Tree, node: Node, opening: Tokens, manner: Manner, seed: int | None) -> Decode:
    config = tree.config
    shortest, longest = config.sentence_tokens
    before, stop, shift = text_before(tree, node, manner)
    left = tree.limit - len(node.tokens) - len(opening)
    against = manner.against and manner.against + node.tokens[tree.prompt_length :] + opening
    return Decode(
        before + opening,
        max_tokens=max(0, min(longest - len(opening), left)),
        seed=seed,
        temperature=config.candidate_temperature,
        top_k=config.top_k,
        endings=config.sentence_endings,
        min_tokens=max(0, shortest - len(opening)),
        stop=stop,
        logit_bias=tree.logit_bias,
        against=against,
        contrast=config.contrast if against else 0.0,
        shift=shift,
    )


def _complete(proposal: Proposal) -> Program[Sentence]:
    decoded = yield from ask(proposal.decode)
    tokens = proposal.opening + decoded.tokens
    logprob = proposal.logprob + decoded.logprob
    finished = decoded.reason == "stop" or proposal.finishes
    return Sentence(TokenSet(tokens, finished), exp(logprob / max(1, len(tokens))))
