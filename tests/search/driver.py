"""Runs the package's search over a world of the brute-force reference, and compares the two trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from reference.brute_force import PRESETS, BruteForce, RefNode, RefRun, Rules
from reference.worlds import PUNCTUATION, RandomWorld

from rain_decoding.backends.scripted import ScriptedBackend, ScriptedCodec
from rain_decoding.config import SearchConfig
from rain_decoding.programs import Request
from rain_decoding.search.outer_loop import Committed, search
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Embed, Judge, Judgement, Stop, Tokens

TOLERANCE = 1e-9

OPTIONS = {
    "exploration": "exploration",
    "similarity": "similarity",
    "similarity_discount": "similarity_discount",
    "similarity_threshold": "similarity_threshold",
    "widening": "widening",
    "widening_variance": "widening_variance",
    "max_children": "max_children",
    "max_simulations": "max_simulations",
    "extra_simulations": "extra_simulations",
    "min_evaluations": "min_evaluations",
    "value_threshold": "value_threshold",
    "candidates": "candidates",
    "lengths": "token_set_lengths",
    "top_k": "top_k",
    "candidate_temperature": "candidate_temperature",
    "redraw": "redraw",
    "root_mix": "root_uniform_share",
}
"""The reference's rules and the package's options that mean the same."""


@dataclass
class Run:
    """A finished search: its first root, with everything ever below it, and what was asked on the way."""

    tree: Tree
    first_root: Node
    finish: str = ""
    commits: list[Committed] = field(default_factory=list)
    simulations: list[int] = field(default_factory=list)
    requests: list[Request[Any]] = field(default_factory=list)
    visits: list[tuple[float, float]] = field(default_factory=list)
    """Per commit: the old root's visits then, and the sum of its children's."""

    @property
    def tokens(self) -> list[Tokens]:
        """The committed token sets."""
        return [commit.node.token_set.tokens for commit in self.commits]


def config_of(rules: Rules, **changes: Any) -> SearchConfig:
    """The package's configuration for the reference's rules."""
    options: dict[str, Any] = {theirs: getattr(rules, ours) for ours, theirs in OPTIONS.items()}
    options["rollout_endings"] = "" if rules.rollout_to_end else "".join(PUNCTUATION)
    options["next_turn_ends"] = rules.looks_for_marker
    return SearchConfig(**{**options, **changes})


def preset_config(preset: str, **changes: Any) -> SearchConfig:
    """A preset of the package, with changes named as the reference names them."""
    options = {OPTIONS.get(name, name): value for name, value in changes.items()}
    return SearchConfig.preset(preset, **options)


def preset_rules(preset: str, **changes: Any) -> Rules:
    """The reference's preset, with changes."""
    return Rules(**{**vars(PRESETS[preset]), **changes})


def backend_for(world: RandomWorld) -> ScriptedBackend:
    """A scripted backend whose model and vocabulary are the world's."""
    codec = ScriptedCodec(world.vocabulary, world.vocabulary[min(world.eos)])
    codec.eos = world.eos
    return ScriptedBackend(world.logits, codec)


def run_package(world: RandomWorld, config: SearchConfig) -> Run:
    """Run the package's search to its end."""
    stop = Stop(world.markers if config.next_turn_ends else (), start=len(world.prompt))
    tree = Tree(world.prompt, config, seed=world.seed, max_tokens=world.max_tokens, stop=stop)
    run = Run(tree, tree.root)
    backend = backend_for(world)
    steps = search(tree)
    simulated = 0
    root = tree.root
    reply: Any = None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration as end:
            run.finish = end.value
            break
        if isinstance(request, Committed):
            run.commits.append(request)
            run.simulations.append(tree.simulations - simulated)
            run.visits.append((root.visits, sum(child.visits for child in root.children)))
            simulated = tree.simulations
            root = tree.root
            reply = None
        else:
            run.requests.append(request)
            reply = answer(request, world, backend)
    if run.finish == "unjudged":
        run.simulations.append(tree.simulations - simulated)
    return run


def answer(request: Request[Any], world: RandomWorld, backend: ScriptedBackend) -> Any:
    """The reply to one request: judge and embedder from the world, all else from the backend."""
    if isinstance(request, Judge):
        return Judgement(score=world.judge(request.tokens), text="")
    if isinstance(request, Embed):
        return np.stack([world.embed(request.tokens, start) for start in request.starts])
    handle = backend.submit(request, owner=1)
    while True:
        for reply in backend.step():
            if reply.error:
                raise reply.error
            assert reply.handle is handle
            return reply.value


def run_reference(world: RandomWorld, rules: Rules) -> RefRun:
    """Run the brute-force reference to its end."""
    return BruteForce(world, rules).run()


def nodes_below(node: Node) -> Iterator[Node]:
    """The node and all its descendants."""
    yield node
    for child in node.children:
        yield from nodes_below(child)


FINISH = {"eos": "stop", "marker": "stop", "limit": "length", "unjudged": "unjudged"}


def differences(ours: Run, theirs: RefRun, *, embeddings: bool = True) -> list[str]:
    """What differs between the two runs, in words; empty where they agree."""
    found: list[str] = []
    _same(found, "finish", ours.finish, FINISH[theirs.finish])
    _same(found, "commits", ours.tokens, theirs.commits)
    _same(found, "simulations", ours.simulations, theirs.simulations)
    _compare_nodes(found, ours.first_root, theirs.first_root, embeddings)
    return found


def _compare_nodes(found: list[str], node: Node, other: RefNode, embeddings: bool) -> None:
    where = f"node {list(node.tokens)}"
    _same(found, f"{where} evaluations", node.evaluations, other.evaluations)
    _same(found, f"{where} depth", node.depth, other.depth)
    _near(found, f"{where} visits", node.visits, other.visits)
    _near(found, f"{where} value", node.value, other.value)
    _near(found, f"{where} prior", node.prior, other.prior)
    _same(found, f"{where} pruned", node.pruned, other.pruned)
    if embeddings and other.embedding is not None:
        if node.embedding is None or not np.allclose(node.embedding, other.embedding, rtol=0, atol=TOLERANCE):
            found.append(f"{where} embedding: {node.embedding} instead of {other.embedding}")
    elif node.embedding is not None:
        found.append(f"{where} has an embedding")
    if not node.expanded:
        # The reference expands at once, the package when it next passes.
        if any(child.evaluations or child.visits or child.pruned for child in other.children):
            found.append(f"{where} has no children")
        return
    _same(found, f"{where} draws", node.draws, other.draws)
    _same(
        found,
        f"{where} children",
        [child.token_set.tokens for child in node.children],
        [child.tokens for child in other.children],
    )
    for child, other_child in zip(node.children, other.children, strict=False):
        _compare_nodes(found, child, other_child, embeddings)


def _same(found: list[str], what: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        found.append(f"{what}: {ours} instead of {theirs}")


def _near(found: list[str], what: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE:
        found.append(f"{what}: {ours!r} instead of {theirs!r}")
