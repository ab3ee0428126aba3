"""One simulation: select, roll out, self-evaluate, back up, expand; then rewind to the root (the inner loop)."""

from __future__ import annotations

from typing import Any

from rain_decoding.programs import Program, ask
from rain_decoding.search.backup import back_up
from rain_decoding.search.expansion import expand
from rain_decoding.search.selection import select_child, terms
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.widening import wants_child, widen
from rain_decoding.types import Array, Decode, Embed, Judge, Tokens


def simulate(tree: Tree) -> Program[bool]:
    """Run one simulation. Returns False when no leaf is left that could be judged."""
    path = yield from _descend(tree)
    if path is None:
        return False
    leaf = path[-1]
    text = leaf.tokens + (yield from _roll_out(tree, leaf))
    judgement = yield from ask(Judge(text))
    tree.simulations += 1
    tree.record_judgement(leaf, judgement)
    if judgement.score is None:
        _prune(tree, leaf)
        return True
    embeddings = None
    if tree.config.needs_embeddings and len(path) > 1:
        starts = tuple(len(parent.tokens) for parent in path[:-1])
        embeddings = yield from ask(Embed(text, starts))
    _credit(tree, path, judgement.score, embeddings)
    if tree.config.eager_expansion and not (leaf.expanded or tree.finished(leaf)):
        yield from expand(tree, leaf)
    return True


def _descend(tree: Tree) -> Program[list[Node] | None]:
    """The path from the root to a leaf, expanding and widening nodes on the way; None if all are closed."""
    node = tree.root
    path = [node]
    steps: list[dict[str, Any]] = []
    while node.expandable and not tree.finished(node):
        if not node.expanded:
            yield from expand(tree, node)
        if tree.config.widening and wants_child(tree, node):
            yield from widen(tree, node)
        child = select_child(node, tree.config.exploration)
        if child is None:
            return None
        q, u = terms(node, child, tree.config.exploration)
        steps.append({"node": child.id, "q": q, "u": u})
        path.append(child)
        node = child
    tree.record("select", root=tree.root.id, path=steps)
    return path


def _roll_out(tree: Tree, leaf: Node) -> Program[Tokens]:
    """Tokens that continue the leaf so that the judge sees a fuller text; none after a finished text."""
    if tree.finished(leaf):
        return ()
    config = tree.config
    decode = Decode(
        leaf.tokens,
        max_tokens=tree.limit - len(leaf.tokens),
        seed=tree.seed_for(leaf, "rollout"),
        temperature=config.rollout_temperature,
        endings=config.rollout_endings,
        stop=tree.stop,
        logit_bias=tree.logit_bias,
    )
    tokens = (yield from ask(decode)).tokens
    tree.record("rollout", node=leaf.id, tokens=list(tokens))
    return tokens


def _credit(tree: Tree, path: list[Node], score: float, embeddings: Array | None) -> None:
    leaf = path[-1]
    leaf.expandable = True
    similar = back_up(path, score, embeddings, tree.config)
    tree.record_backup([*path, *similar], score)
    if score < 0:
        tree.rewinds += 1
        tree.record("rewind", node=leaf.id, root=tree.root.id, score=score)


def _prune(tree: Tree, leaf: Node) -> None:
    """Keep selection away from a leaf that could not be judged, and from parents with nothing else below them."""
    if leaf is tree.root:
        leaf.expandable = True
        return
    node: Node | None = leaf
    while node is not None and node is not tree.root and all(child.pruned for child in node.children):
        node.pruned = True
        node = node.parent
