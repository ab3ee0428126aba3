"""Verify first: decode plainly, judge every sentence while decoding goes on, search only behind a bad judgement.

Not in the paper. The tree is the paper's, with a sentence as token set: a node has one child, plain decoding's,
until that is judged bad; then it is widened. Where all children of a node are bad the search rewinds to its
parent, as far as the text is not released. What is proposed in place of bad text: see `search.proposals`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from math import atanh, log, tanh

from rain_decoding.programs import Await, Branch, Drop, Launch, Program, ask
from rain_decoding.search.backup import back_up
from rain_decoding.search.expansion import describe
from rain_decoding.search.outer_loop import Committed, Rewound, Search, Searching, commit
from rain_decoding.search.proposals import plan
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, Sentence, alternative, plain_sentence
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import Judge, Judgement, TokenSet, rank

LIKE = 0.25
"""Scores no further apart count as alike where the best of texts is chosen that are not good."""


def verify_first(tree: Tree) -> Search:
    """Search until the text is finished, yielding requests, commits and `Rewound`."""
    verified = tree.root
    while not tree.finished(verified):
        verified, wrong = yield from _decode(tree, verified)
        if wrong is not None:
            verified = yield from _recover(tree, verified, wrong)
    if verified.score is None and verified is not tree.root and tree.config.on_unscored == "stop":
        return "unjudged"
    yield from _release(tree, verified)
    return "stop" if verified.token_set.finished else "length"


def _decode(tree: Tree, start: Node) -> Searching[tuple[Node, Node | None]]:
    """Decode plainly, one sentence ahead of what is judged.

    Returns the first node that is judged bad and the one with which the text went wrong, or else the finished one.
    """
    decoding: Branch[Sentence] | None = yield from ask(Launch(plain_sentence(tree, start)))
    judging: deque[tuple[Node, Branch[Judgement]]] = deque()
    while True:
        if judging and judging[0][1].done:
            node, judged = judging.popleft()
            _credit(tree, node, judged.result)
            bad = _is_bad(tree, node)
            if tree.finished(node) or bad:
                for branch in (decoding, *(branch for _, branch in judging)):
                    if branch is not None:
                        yield from ask(Drop(branch))
                node.children.clear()  # what was decoded ahead of the judgement
                return node, _turn_back(tree, node) if bad else None
            if _is_good(tree, node):
                yield from _release_held(tree, node)
        elif decoding is not None and decoding.done:
            start = node = _add(tree, start, decoding.result)
            judge = Judge(node.tokens, repaired=tree.rewinds > 0)
            judging.append((node, (yield from ask(Launch(ask(judge))))))
            decoding = None
            if not tree.finished(node):
                decoding = yield from ask(Launch(plain_sentence(tree, node)))
        else:
            yield from ask(
                Await([branch for branch in (decoding, *(b for _, b in list(judging)[:1])) if branch])
            )


def _recover(tree: Tree, bad: Node, wrong: Node) -> Searching[Node]:
    """After a bad judgement, the node to go on from: a good one, or the least bad that is left."""
    wrong.pruned = True
    node = _turning_point(wrong)
    if tree.harmful > tree.config.decline_above:
        node = _back_to_root(tree, bad, node)
        yield from _last_resort(tree)
    while True:
        if (child := _promising(tree, node)) is not None:
            break
        if _may_widen(tree, node) and (yield from _widen(tree, node)):
            continue
        node.pruned = True
        above = node.parent
        if node is tree.root or above is None:
            child = yield from _give_up(tree)
            break
        if tree.stride:
            # The parts that a reading judge looks at are no sentences: there is nothing to go back to but the start.
            node = _back_to_root(tree, bad, node)
        else:
            node = above
            _record_rewind(tree, bad, node)
    yield Rewound(child)
    return child


def _back_to_root(tree: Tree, bad: Node, node: Node) -> Node:
    """Leave the path to `node` for good, or the same text would be decoded and left for ever. Returns the root."""
    for part in _path(tree, node):
        part.pruned = True
    if node is not tree.root:
        _record_rewind(tree, bad, tree.root)
    return tree.root


def _last_resort(tree: Tree) -> Program[Node | None]:
    """Proposals of the last kinds at the root, until one of them is not bad."""
    while (yield from _widen(tree, tree.root, last=True)):
        if (child := _promising(tree, tree.root)) is not None:
            return child
    return None


def _give_up(tree: Tree) -> Searching[Node]:
    """Where nothing good was found: a last resort, if there is one that is not bad, else the least bad text."""
    tree.root.pruned = False
    if (child := (yield from _last_resort(tree))) is not None:
        return child
    tree.root.pruned = True
    child = _least_bad(tree)
    yield from _release(tree, child)  # what was given up is not searched again
    return child


def _first_wrong(tree: Tree, bad: Node) -> Node:
    """Where the text went wrong: behind the place where its score turned, where that is known.

    Else it is the first of the undecided sentences that led to the bad one, or that one itself.
    """
    if bad.turn is not None:
        return _cut(tree, bad, bad.turn)
    node = bad
    while node.parent is not None and node.parent is not tree.root and not _is_good(tree, node.parent):
        node = node.parent
    return node


def _cut(tree: Tree, bad: Node, turn: int) -> Node:
    """The first node on the path to `bad` that lies behind `turn` tokens, which is made where none begins there."""
    wrong = bad
    while wrong.parent is not None and len(wrong.parent.tokens) > turn:
        wrong = wrong.parent
    before = _turning_point(wrong)
    if len(before.tokens) >= turn:
        return wrong
    before.children.remove(wrong)
    kept = tree.add_child(
        before, TokenSet(bad.tokens[len(before.tokens) : turn]), wrong.prior, manner=wrong.manner
    )
    kept.score = tree.config.accept_value
    rest = tree.add_child(
        kept, TokenSet(bad.tokens[turn:], bad.token_set.finished), wrong.prior, manner=wrong.manner
    )
    rest.score = bad.score
    for parent, child in ((before, kept), (kept, rest)):
        tree.record("expand", node=parent.id, children=[describe(child)])
    return rest


def _turning_point(wrong: Node) -> Node:
    assert wrong.parent is not None, "what was judged bad is not released"
    return wrong.parent


def _turn_back(tree: Tree, bad: Node) -> Node:
    """Count a bad judgement, after which the search goes on before the node that is returned."""
    tree.rewinds += 1
    wrong = _first_wrong(tree, bad)
    _record_rewind(tree, bad, _turning_point(wrong))
    return wrong


def _record_rewind(tree: Tree, bad: Node, to: Node) -> None:
    tree.record("rewind", node=bad.id, root=to.id, score=bad.score)


def _promising(tree: Tree, node: Node) -> Node | None:
    """The most probable child that was judged good, else the undecided one with the best score; None without any."""
    is_open = [child for child in node.children if not child.pruned and _good_enough(tree, child)]
    if good := [child for child in is_open if _is_good(tree, child)]:
        return max(good, key=lambda child: child.prior)
    return max(is_open, key=lambda child: (rank(child.score), child.prior), default=None)


def _may_widen(tree: Tree, node: Node) -> bool:
    """Whether more may be proposed below a node. Draws that repeat a child count, too."""
    most = tree.config.max_children
    return max(len(node.children), node.draws) < most and tree.simulations < tree.config.max_simulations


def _widen(tree: Tree, node: Node, *, last: bool = False) -> Program[bool]:
    """Add alternatives of the next kind that has any, decoded and judged together; whether there were any."""
    config = tree.config
    for kind, most in plan(config.proposals):
        if kind.last is not last:
            continue
        made = node.proposed.get(kind.name, 0)
        count = min(config.alternatives, most - made)
        if not last:
            count = min(
                count, config.max_children - len(node.children), config.max_simulations - tree.simulations
            )
        if count <= 0:
            continue
        proposals = yield from kind.propose(tree, node, count)
        node.proposed[kind.name] = made + len(proposals) if proposals else most
        if proposals:
            yield from _try(tree, node, kind, proposals)
            return True
    return False


def _try(tree: Tree, node: Node, kind: Kind, proposals: list[Proposal]) -> Program[None]:
    """Decode and judge proposals below a node; with `first_good` only until one of them is good."""
    # Of the last kind nothing is the best of many.
    tree.tried += 0 if kind.last else len(proposals)
    tried = 0 if kind.last else tree.tried
    seen = {child.token_set.tokens for child in node.children}
    waiting: list[tuple[Proposal, Branch[tuple[Sentence, Judgement] | None]]] = []
    for proposal in proposals:
        waiting.append((proposal, (yield from ask(Launch(alternative(proposal, seen))))))
    while waiting:
        yield from ask(Await([branch for _, branch in waiting]))
        for proposal, branch in [entry for entry in waiting if entry[1].done]:
            waiting.remove((proposal, branch))
            if branch.result is None:
                continue
            sentence, judgement = branch.result
            child = _add(tree, node, sentence, kind.name, proposal.manner)
            child.tried = tried
            _credit(tree, child, judgement)
            if _is_bad(tree, child):
                tree.rewinds += 1
                _record_rewind(tree, child, node)
            if tree.config.first_good and _is_good(tree, child):
                for _, other in waiting:
                    yield from ask(Drop(other))
                return


def _least_bad(tree: Tree) -> Node:
    """The best of the texts that the search ended at: the best judged, and the most probable among like scores.

    It is plain decoding's where that one is not judged better by more than `plain_margin`.
    """
    leaves = [node for node in _below(tree.root) if not node.children and node is not tree.root]
    # Small differences between scores mean nothing.
    best = max(leaves, key=lambda node: (round(rank(node.score) / LIKE), node.prior))
    margin = tree.config.plain_margin
    plain = (leaf for leaf in leaves if not any(node.kind for node in _path(tree, leaf)))
    return next((leaf for leaf in plain if rank(best.score) <= rank(leaf.score) + margin), best)


def _below(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _below(child)


def _add(tree: Tree, parent: Node, sentence: Sentence, kind: str = "", manner: Manner | None = None) -> Node:
    manner = parent.manner if manner is None else manner
    child = tree.add_child(parent, sentence.token_set, sentence.probability, kind=kind, manner=manner)
    tree.record("expand", node=parent.id, children=[describe(child)])
    return child


def _credit(tree: Tree, node: Node, judgement: Judgement) -> None:
    """Take a judgement of the text that ends at `node`, and back it up to the root."""
    tree.simulations += 1
    tree.record_judgement(node, judgement)
    node.score = judgement.score
    node.turn = _turn(tree, judgement)
    tree.harmful = max(tree.harmful, judgement.harmful)
    if judgement.score is None:
        return
    path = [tree.root, *_path(tree, node)]
    back_up(path, judgement.score, None, tree.config)
    tree.record_backup(path, judgement.score)


def _turn(tree: Tree, judgement: Judgement) -> int | None:
    """Tokens up to the beginning of the sentence in which the score fell for good; not before what is released."""
    if not judgement.course:
        return None
    good = [number for number, score in enumerate(judgement.course, 1) if score > _accepted(tree)]
    fell = good[-1] if good else 0
    begins = max((begin for begin in judgement.sentences if begin <= fell), default=fell)
    return max(tree.prompt_length + begin for begin in (begins, len(tree.root.tokens) - tree.prompt_length))


def _bar(tree: Tree, node: Node) -> float:
    """What a score must be above to be good.

    An alternative is the best of many. Scores are tanh(l / 2), with the log-odds l that the text is good. A bad text's
    likelihood ratio is above t with probability 1 / t at most, the largest of n with n / t: so l must be larger by
    log(n) for no more bad texts to pass than if one had been tried.
    """
    bar = min(1.0, _accepted(tree) + _margin(tree, node))
    if not (tree.config.rising_bar and node.tried > 1) or abs(bar) == 1:
        return bar
    return tanh(atanh(bar) + log(node.tried) / 2)


def _accepted(tree: Tree) -> float:
    """`accept_value`, or `accept_after` where something was judged bad."""
    config = tree.config
    return max(config.accept_value, config.accept_after) if tree.rewinds else config.accept_value


def _margin(tree: Tree, node: Node) -> float:
    return 0.0 if tree.finished(node) else tree.config.undecided_margin


def _is_good(tree: Tree, node: Node) -> bool:
    """Judged so well that it may be released."""
    return node.score is not None and node.score > _bar(tree, node)


def _is_bad(tree: Tree, node: Node) -> bool:
    """Judged so badly that the search turns back."""
    if node.score is None:
        return False
    margin = _margin(tree, node)
    if not node.kind:
        margin = max(margin, tree.config.rewind_margin)
    elif tree.finished(node):
        return not _is_good(tree, node)
    elif tree.config.rising_bar:
        # An alternative is undecided between the bar for one and that for many: no margin below is granted it.
        margin = 0.0
    return node.score <= _accepted(tree) - margin


def _good_enough(tree: Tree, node: Node) -> bool:
    """Whether decoding may go on from here: good, or undecided."""
    return not _is_bad(tree, node)


def release_good(tree: Tree) -> Generator[Committed, None, None]:
    """Commit the path to the longest text that was judged good, where the search cannot go on."""
    good = [node for node in _below(tree.root) if _is_good(tree, node) and not node.pruned]
    if good:
        yield from _release(tree, max(good, key=lambda node: len(node.tokens)))


def _release(tree: Tree, node: Node) -> Generator[Committed, None, None]:
    """Commit the path to `node`."""
    for child in _path(tree, node):
        yield commit(tree, child)


def _release_held(tree: Tree, node: Node) -> Generator[Committed, None, None]:
    """The same, but for the last sentences, or for the last tokens where the judge reads."""
    path, config = _path(tree, node), tree.config
    if tree.stride:
        path = [one for one in path if len(node.tokens) - len(one.tokens) >= config.hold_tokens]
    else:
        path = path[: max(0, len(path) - config.hold_back)]
    for child in path:
        yield commit(tree, child)


def _path(tree: Tree, node: Node) -> list[Node]:
    """From below the root to the node."""
    path: list[Node] = []
    while node is not tree.root and node.parent is not None:
        path.insert(0, node)
        node = node.parent
    return path
