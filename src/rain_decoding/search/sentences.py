"""Sentences as token sets: plain decoding's next one, and alternatives to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

from rain_decoding.programs import Program, ask
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Candidate, Decode, Judge, Judgement, Tokens, TokenSet, TopTokens


@dataclass(frozen=True, slots=True)
class Sentence:
    """A proposed continuation; `probability` in (0, 1] is the geometric mean over its tokens."""

    token_set: TokenSet
    probability: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """How an alternative is made: `opening` tokens and their log-probability, continued by `decode`."""

    parent: Node
    opening: Tokens
    logprob: float
    decode: Decode


def plain_sentence(tree: Tree, node: Node) -> Program[Sentence]:
    """Plain decoding's next sentence after a node, or as many tokens as the tree's stride."""
    left = tree.limit - len(node.tokens)
    decode = replace(_decode(tree, node, ()), horizon=left)
    if tree.stride:
        decode = replace(decode, max_tokens=min(tree.stride, left), endings="", min_tokens=0)
    if tree.temperature:
        seed = tree.seed_for(node, "plain")
        decode = replace(decode, seed=seed, temperature=tree.temperature, top_k=0, top_p=tree.top_p)
    return (yield from _complete(Proposal(node, (), 0.0, decode)))


def alternative(proposal: Proposal, seen: set[Tokens]) -> Program[tuple[Sentence, Judgement] | None]:
    """Complete a proposal and have it judged; None for one that was `seen`."""
    sentence = yield from _complete(proposal)
    if sentence.token_set.tokens in seen:
        return None
    seen.add(sentence.token_set.tokens)
    judgement = yield from ask(Judge(proposal.parent.tokens + sentence.token_set.tokens))
    return sentence, judgement


def openings(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Up to `count` proposals that begin with other tokens than the children, continued greedily; once per node."""
    if node.candidates:
        return []
    taken = {child.token_set.tokens[0] for child in node.children}
    first_tokens = TopTokens(node.tokens, count + len(taken), stop=tree.stop, logit_bias=tree.logit_bias)
    node.candidates = yield from ask(first_tokens)
    least = tree.config.opening_share * node.candidates[0].probability
    others = [
        candidate
        for candidate in node.candidates
        if candidate.token_set.tokens[0] not in taken and candidate.probability >= least
    ]
    return [_opened(tree, node, candidate) for candidate in others[:count]]


def sampled(tree: Tree, node: Node, count: int) -> list[Proposal]:
    """`count` proposals drawn from the model."""
    draws = range(node.draws, node.draws + count)
    node.draws += count
    return [
        Proposal(node, (), 0.0, _decode(tree, node, (), seed=tree.seed_for(node, "candidate", index)))
        for index in draws
    ]


def _opened(tree: Tree, node: Node, candidate: Candidate) -> Proposal:
    tokens = candidate.token_set.tokens
    return Proposal(node, tokens, log(candidate.probability), _decode(tree, node, tokens))


def _decode(tree: Tree, node: Node, opening: Tokens, seed: int | None = None) -> Decode:
    config = tree.config
    shortest, longest = config.sentence_tokens
    text = node.tokens + opening
    return Decode(
        text,
        max_tokens=max(0, min(longest - len(opening), tree.limit - len(text))),
        seed=seed,
        temperature=config.candidate_temperature,
        top_k=config.top_k,
        endings=config.sentence_endings,
        min_tokens=max(0, shortest - len(opening)),
        stop=tree.stop,
        logit_bias=tree.logit_bias,
    )


def _complete(proposal: Proposal) -> Program[Sentence]:
    decoded = yield from ask(proposal.decode)
    tokens = proposal.opening + decoded.tokens
    logprob = proposal.logprob + decoded.logprob
    return Sentence(TokenSet(tokens, decoded.reason == "stop"), exp(logprob / len(tokens)))
