"""Verify first: decode plainly, judge every sentence while decoding goes on, search only behind a bad judgement.

Not in the paper. The tree is the paper's, with a sentence as token set: a node has one child, plain decoding's,
until that is judged bad; then it is widened. Where all children of a node are bad the search rewinds to its
parent, as far as the text is not released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator

from rain_decoding.programs import Await, Branch, Drop, Launch, Program, ask
from rain_decoding.search.backup import back_up
from rain_decoding.search.expansion import describe
from rain_decoding.search.outer_loop import Committed, Rewound, Search, Searching, commit
from rain_decoding.search.sentences import Sentence, alternative, openings, plain_sentence, sampled
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Judge, Judgement


def verify_first(tree: Tree) -> Search:
    """Search until the text is finished, yielding requests, commits and `Rewound`."""
    verified = tree.root
    while not tree.finished(verified):
        verified = yield from _decode(tree, verified)
        if not _good_enough(tree, verified):
            verified = yield from _recover(tree, verified)
    if verified.score is None and verified is not tree.root and tree.config.on_unscored == "stop":
        return "unjudged"
    yield from _release(tree, verified, held=0)
    return "stop" if verified.token_set.finished else "length"


def _decode(tree: Tree, start: Node) -> Searching[Node]:
    """Decode plainly, one sentence ahead of what is judged.

    Returns the first node that is judged bad, or else the finished one.
    """
    decoding: Branch[Sentence] | None = yield from ask(Launch(plain_sentence(tree, start)))
    judging: deque[tuple[Node, Branch[Judgement]]] = deque()
    while True:
        if judging and judging[0][1].done:
            node, judged = judging.popleft()
            _credit(tree, node, judged.result)
            if _is_bad(tree, node):
                _turn_back(tree, node, _turning_point(_first_wrong(tree, node)))
            if tree.finished(node) or _is_bad(tree, node):
                for branch in (decoding, *(branch for _, branch in judging)):
                    if branch is not None:
                        yield from ask(Drop(branch))
                node.children.clear()  # what was decoded ahead of the judgement
                return node
            if _is_good(tree, node):
                yield from _release(tree, node, tree.config.hold_back)
        elif decoding is not None and decoding.done:
            start = node = _add(tree, start, decoding.result)
            judging.append((node, (yield from ask(Launch(ask(Judge(node.tokens)))))))
            decoding = None
            if not tree.finished(node):
                decoding = yield from ask(Launch(plain_sentence(tree, node)))
        else:
            yield from ask(
                Await([branch for branch in (decoding, *(b for _, b in list(judging)[:1])) if branch])
            )


def _recover(tree: Tree, bad: Node) -> Searching[Node]:
    """After a bad judgement, the node to go on from: a good one, or the least bad that is left."""
    wrong = _first_wrong(tree, bad)
    wrong.pruned = True
    node = _turning_point(wrong)
    while True:
        if (child := _promising(tree, node)) is not None:
            break
        if _may_widen(tree, node):
            yield from _widen(tree, node)
            continue
        node.pruned = True
        if node is tree.root or node.parent is None:
            child = _least_bad(tree)
            yield from _release(tree, child, held=0)  # what was given up is not searched again
            break
        node = node.parent
        _record_rewind(tree, bad, node)
    yield Rewound(child)
    return child


def _first_wrong(tree: Tree, bad: Node) -> Node:
    """Where the text went wrong: the first of the undecided sentences that led to the bad one, or that one itself."""
    node = bad
    while node.parent is not None and node.parent is not tree.root and not _is_good(tree, node.parent):
        node = node.parent
    return node


def _turning_point(wrong: Node) -> Node:
    assert wrong.parent is not None, "what was judged bad is not released"
    return wrong.parent


def _turn_back(tree: Tree, bad: Node, to: Node) -> None:
    """Count a bad judgement, after which the search goes on below `to`."""
    tree.rewinds += 1
    _record_rewind(tree, bad, to)


def _record_rewind(tree: Tree, bad: Node, to: Node) -> None:
    tree.record("rewind", node=bad.id, root=to.id, score=bad.score)


def _promising(tree: Tree, node: Node) -> Node | None:
    """The most probable child that was judged good, else undecided; None if there is none."""
    is_open = [child for child in node.children if not child.pruned and _good_enough(tree, child)]
    return max(is_open, key=lambda child: (_is_good(tree, child), child.prior), default=None)


def _may_widen(tree: Tree, node: Node) -> bool:
    """Whether more may be proposed below a node. Draws that repeat a child count, too."""
    most = tree.config.max_children
    return max(len(node.children), node.draws) < most and tree.simulations < tree.config.max_simulations


def _widen(tree: Tree, node: Node) -> Program[None]:
    """Add alternatives, decoded and judged together: first from other first tokens, then sampled."""
    config = tree.config
    count = min(
        config.alternatives,
        config.max_children - len(node.children),
        config.max_simulations - tree.simulations,
    )
    seen = {child.token_set.tokens for child in node.children}
    proposals = (yield from openings(tree, node, count)) or sampled(tree, node, count)
    waiting: list[Branch[tuple[Sentence, Judgement] | None]] = []
    for proposal in proposals:
        waiting.append((yield from ask(Launch(alternative(proposal, seen)))))
    while waiting:
        yield from ask(Await(waiting))
        for branch in [branch for branch in waiting if branch.done]:
            waiting.remove(branch)
            if branch.result is None:
                continue
            sentence, judgement = branch.result
            child = _add(tree, node, sentence)
            _credit(tree, child, judgement)
            if _is_bad(tree, child):
                _turn_back(tree, child, node)
            if config.first_good and _is_good(tree, child):
                for other in waiting:
                    yield from ask(Drop(other))
                return


def _least_bad(tree: Tree) -> Node:
    """The best of the texts that the search ended at: the best judged, and the most probable among like scores."""
    leaves = [node for node in _below(tree.root) if not node.children and node is not tree.root]
    # Small differences between bad scores mean nothing.
    return max(leaves, key=lambda node: (-2 if node.score is None else round(node.score), node.prior))


def _below(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _below(child)


def _add(tree: Tree, parent: Node, sentence: Sentence) -> Node:
    child = tree.add_child(parent, sentence.token_set, sentence.probability)
    tree.record("expand", node=parent.id, children=[describe(child)])
    return child


def _credit(tree: Tree, node: Node, judgement: Judgement) -> None:
    """Take a judgement of the text that ends at `node`, and back it up to the root."""
    tree.simulations += 1
    tree.record_judgement(node, judgement)
    node.score = judgement.score
    if judgement.score is None:
        return
    path = [node]
    while path[0] is not tree.root and path[0].parent is not None:
        path.insert(0, path[0].parent)
    back_up(path, judgement.score, None, tree.config)
    tree.record_backup(path, judgement.score)


def _is_good(tree: Tree, node: Node) -> bool:
    """Judged so well that it may be released."""
    margin = 0.0 if tree.finished(node) else tree.config.undecided_margin
    return node.score is not None and node.score > tree.config.accept_value + margin


def _is_bad(tree: Tree, node: Node) -> bool:
    """Judged so badly that the search turns back."""
    margin = 0.0 if tree.finished(node) else tree.config.undecided_margin
    return node.score is not None and node.score <= tree.config.accept_value - margin


def _good_enough(tree: Tree, node: Node) -> bool:
    """Whether decoding may go on from here: good, or undecided."""
    return not _is_bad(tree, node)


def release_good(tree: Tree) -> Generator[Committed, None, None]:
    """Commit the path to the longest text that was judged good, where the search cannot go on."""
    good = [node for node in _below(tree.root) if _is_good(tree, node) and not node.pruned]
    if good:
        yield from _release(tree, max(good, key=lambda node: len(node.tokens)), held=0)


def _release(tree: Tree, node: Node, held: int) -> Generator[Committed, None, None]:
    """Commit the path to `node`, but for the last `held` sentences."""
    path = [node]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    for child in path[1 : max(1, len(path) - held)]:
        yield commit(tree, child)
