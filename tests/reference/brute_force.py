"""RAIN once more, straight from ALGORITHM.md: slow, plain and independent of the package.

Nothing here imports `rain_decoding`. The tests run both over the same small worlds and compare the trees.
What the two share is the meaning of a random draw (`uniforms` below), so that both draw the same token sets.

The expansion is eager, as the paper has it: a leaf gets its children at the end of the simulation that
evaluated it. Every statistic is a plain attribute, every probability is computed anew where it is needed.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

Tokens = tuple[int, ...]

ROUNDING = 1e-12
"""Two children this close to each other may change places with the order in which floats are multiplied."""


@dataclass(frozen=True)
class World:
    """A language model, a judge and an embedder, as plain functions of token ids."""

    logits: Callable[[Tokens], np.ndarray]
    eos: frozenset[int]
    marker_end: Callable[[Tokens], bool]
    ends_with_punctuation: Callable[[Tokens], bool]
    judge: Callable[[Tokens], float | None]
    embed: Callable[[Tokens, int], np.ndarray]
    prompt: Tokens
    max_tokens: int
    seed: int = 0


@dataclass(frozen=True)
class Rules:
    """The constants of the search; the defaults are those of `paper-hh`."""

    exploration: float = 2.0
    similarity: bool = True
    similarity_discount: float = 0.2
    similarity_threshold: float = 0.95
    widening: bool = True
    widening_variance: float = 0.03
    max_children: int = 20
    max_simulations: int = 50
    extra_simulations: int = 15
    min_evaluations: int = 6
    value_threshold: float = 0.8
    candidates: int = 10
    lengths: tuple[int, ...] = (1, 2, 4, 10)
    top_k: int = 15
    candidate_temperature: float = 1.0
    redraw: bool = False
    root_mix: float = 0.25
    rollout_to_end: bool = False
    looks_for_marker: bool = True


PRESETS: dict[str, Rules] = {
    "paper-hh": Rules(),
    "paper-adv": Rules(min_evaluations=5, candidate_temperature=2.0, redraw=True),
    "paper-truth": Rules(min_evaluations=16, rollout_to_end=True, looks_for_marker=False),
    "paper-imdb": Rules(),
}


@dataclass(eq=False)
class RefNode:
    """One node of the tree. `text` is the whole token sequence down to here, prompt included."""

    tokens: Tokens
    text: Tokens
    depth: int
    prior: float
    parent: RefNode | None = None
    visits: float = 0.0
    evaluations: int = 0
    value: float = 0.0
    embedding: np.ndarray | None = None
    children: list[RefNode] = field(default_factory=list)
    pruned: bool = False
    candidate_list: list[tuple[Tokens, float]] = field(default_factory=list)
    draws: int = 0


@dataclass
class RefRun:
    """What a search left behind: the first root with all its descendants, thrown-away ones too."""

    first_root: RefNode
    commits: list[Tokens]
    simulations: list[int]
    finish: str
    events: Counter[str]


# --- probabilities and draws ----------------------------------------------------------------------


def uniforms(base: int, purpose: str, index: int, text: Tokens, length: int) -> list[float]:
    """The random numbers of one draw: a function of the seed, the purpose, the index and the text alone."""
    message = f"{base}|{purpose}|{index}|".encode("ascii")
    for token in text:
        message += int(token).to_bytes(8, "little", signed=True)
    seed = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=seed))
    return [float(generator.random(1)[0]) for _ in range(length)]


def probabilities(world: World, text: Tokens, temperature: float, top_k: int | None) -> dict[int, float]:
    """Next-token probabilities by token id; with top_k only those of at least the k-th largest logit."""
    raw = [float(x) for x in world.logits(text)]
    kept = list(range(len(raw)))
    if top_k is not None and top_k < len(raw):
        kth = sorted(raw, reverse=True)[top_k - 1]
        kept = [t for t in kept if raw[t] >= kth]
    largest = max(raw)
    weights = {t: float(np.exp((raw[t] - largest) / temperature)) for t in kept}
    total = sum(weights.values())
    return {t: w / total for t, w in weights.items()}


def most_probable(world: World, text: Tokens) -> int:
    """The greedy token: the largest logit, the lowest id among equals."""
    raw = [float(x) for x in world.logits(text)]
    return raw.index(max(raw))


def pick(distribution: dict[int, float], u: float) -> int:
    """The first token, by id, whose cumulative probability exceeds u times the total."""
    total = sum(distribution.values())
    running = 0.0
    for token in sorted(distribution):
        running += distribution[token]
        if running > u * total:
            return token
    return max(t for t, p in distribution.items() if p > 0)


def draw_set(
    world: World, rules: Rules, node: RefNode, length: int, index: int | None
) -> tuple[Tokens, float]:
    """One token set below a node with its probability: drawn, or greedy where index is None."""
    numbers = [] if index is None else uniforms(world.seed, "candidate", index, node.text, length)
    tokens: Tokens = ()
    probability = 1.0
    for position in range(length):
        text = node.text + tokens
        distribution = probabilities(world, text, rules.candidate_temperature, rules.top_k)
        token = most_probable(world, text) if index is None else pick(distribution, numbers[position])
        probability *= distribution[token]
        tokens += (token,)
        if token in world.eos:
            break
    return tokens, probability


# --- the search -----------------------------------------------------------------------------------


class BruteForce:
    """One search over one world. `run()` does all of it."""

    def __init__(self, world: World, rules: Rules) -> None:
        self.world = world
        self.rules = rules
        self.events: Counter[str] = Counter()
        self.root = RefNode(tokens=(), text=world.prompt, depth=0, prior=1.0)
        self.first_root = self.root

    # When is a text finished?

    def finish_reason(self, text: Tokens) -> str | None:
        answer = text[len(self.world.prompt) :]
        if answer and answer[-1] in self.world.eos:
            return "eos"
        if self.rules.looks_for_marker and self.world.marker_end(answer):
            return "marker"
        if len(answer) >= self.world.max_tokens:
            return "limit"
        return None

    # Outer loop

    def run(self) -> RefRun:
        commits: list[Tokens] = []
        simulations: list[int] = []
        finish = self.finish_reason(self.root.text)
        while finish is None:
            count = self.run_simulations()
            simulations.append(count)
            best = self.best_child()
            if best is None or best.evaluations == 0:
                self.events["end: unjudged"] += 1
                finish = "unjudged"
                break
            commits.append(best.tokens)
            self.root = best
            self.mix_root_priors()
            finish = self.finish_reason(best.text)
            if finish is not None:
                self.events[f"end: {finish}"] += 1
        return RefRun(self.first_root, commits, simulations, finish, self.events)

    def run_simulations(self) -> int:
        """Simulations until the stopping rule holds; how many there were."""
        carried = self.root.evaluations
        limit = max(self.rules.max_simulations, carried + self.rules.extra_simulations)
        done = 0
        while self.simulate():
            done += 1
            best = self.best_child()
            if (
                best is not None
                and best.evaluations > self.rules.min_evaluations
                and best.value > self.rules.value_threshold
            ):
                self.events["stop: early"] += 1
                return done
            if carried + done >= limit:
                self.events["stop: all simulations"] += 1
                return done
        self.events["stop: nothing open"] += 1
        return done

    def best_child(self) -> RefNode | None:
        best = None
        for child in self.root.children:
            if best is None or (child.visits, child.value) > (best.visits, best.value):
                best = child
        if any(0 < abs(child.visits - best.visits) < ROUNDING for child in self.root.children):
            self.events["decided by rounding"] += 1
        return best

    def mix_root_priors(self) -> None:
        children = self.root.children
        if not children:
            return
        mix = self.rules.root_mix
        mixed = [(1 - mix) * child.prior + mix / len(children) for child in children]
        for child, prior in zip(children, mixed, strict=True):
            child.prior = prior / sum(mixed)

    # Inner loop

    def simulate(self) -> bool:
        """One simulation; False (and none) where the root has children, but none that is open."""
        node = self.root
        while node.children:
            if self.rules.widening:
                self.widen(node)
            if all(child.pruned for child in node.children):
                return False
            node = self.select(node)
        if node.evaluations and self.finish_reason(node.text):
            self.events["finished leaf again"] += 1
        text = self.rollout(node)
        score = self.world.judge(text)
        if score is None:
            self.events["unscored"] += 1
            self.close(node)
        else:
            self.backup(node, text, score)
        if not node.pruned and self.finish_reason(node.text) is None:
            self.expand(node)
        return True

    def select(self, node: RefNode) -> RefNode:
        best, best_worth = None, -math.inf
        worths = []
        for child in node.children:
            if child.pruned:
                continue
            q = 0.0 if child.visits == 0 else (child.value - (-1.0)) / (1.0 - (-1.0) + 1e-5)
            worth = q + self.rules.exploration * child.prior * math.sqrt(node.visits) / (1 + child.visits)
            worths.append(worth)
            if worth > best_worth:
                best, best_worth = child, worth
        assert best is not None
        ties = sum(abs(worth - best_worth) < ROUNDING for worth in worths)
        if ties > 1 and (len(best.tokens) > 1 or worths.count(best_worth) < ties):
            self.events["decided by rounding"] += 1
        return best

    def rollout(self, leaf: RefNode) -> Tokens:
        """The text the judge sees: the leaf's, continued."""
        text = leaf.text
        drawn = 0
        while self.finish_reason(text) is None:
            if not self.rules.rollout_to_end and self.world.ends_with_punctuation(text):
                self.events["rollout: punctuation"] += 1
                break
            u = uniforms(self.world.seed, "rollout", 0, leaf.text, drawn + 1)[drawn]
            text += (pick(probabilities(self.world, text, 1.0, None), u),)
            drawn += 1
        return text

    def close(self, node: RefNode) -> None:
        """An unscored leaf is not selected again, nor a parent without other children (but for the root)."""
        if node is self.root:
            return
        node.pruned = True
        parent = node.parent
        if parent is not None and all(child.pruned for child in parent.children):
            self.close(parent)

    def backup(self, leaf: RefNode, text: Tokens, score: float) -> None:
        node = leaf
        while node is not self.root:
            parent = node.parent
            assert parent is not None
            node.visits += 1
            node.evaluations += 1
            seen = np.asarray(self.world.embed(text, len(parent.text)), dtype=np.float64)
            before = np.zeros_like(seen) if node.embedding is None else node.embedding
            node.embedding = before + (seen - before) / node.evaluations
            if self.rules.similarity:
                for sibling in parent.children:
                    if sibling is not node:
                        self.credit(sibling, node.embedding, score)
            node.value += (score - node.value) / node.visits
            node = parent
        node.visits += 1
        node.evaluations += 1
        node.value += (score - node.value) / node.visits

    def credit(self, sibling: RefNode, embedding: np.ndarray, score: float) -> None:
        if sibling.embedding is None:
            return
        lengths = math.sqrt(embedding @ embedding) * math.sqrt(sibling.embedding @ sibling.embedding)
        similarity = float(embedding @ sibling.embedding) / lengths if lengths > 0 else 0.0
        if similarity < self.rules.similarity_threshold:
            return
        self.events["similarity"] += 1
        weight = self.rules.similarity_discount * similarity
        sibling.value = (sibling.value * sibling.visits + weight * score) / (sibling.visits + weight)
        sibling.visits += weight

    # Expansion

    def set_length(self, node: RefNode) -> int:
        """How long the token sets below a node are."""
        return self.rules.lengths[min(node.depth, len(self.rules.lengths) - 1)]

    def add_child(self, node: RefNode, tokens: Tokens, prior: float) -> None:
        if tokens[-1] in self.world.eos:
            self.events["eos in candidate"] += 1
        node.children.append(
            RefNode(tokens=tokens, text=node.text + tokens, depth=node.depth + 1, prior=prior, parent=node)
        )

    def expand(self, node: RefNode) -> None:
        length = self.set_length(node)
        if length == 1:
            found = self.top_tokens(node, self.rules.candidates, self.rules.candidate_temperature)
            found = sorted(found)
        else:
            found = self.longer_candidates(node, self.rules.candidates)
            node.candidate_list = list(found)
        total = sum(probability for _, probability in found)
        for tokens, probability in found:
            self.add_child(node, tokens, probability / total)
        if node is self.root:
            self.mix_root_priors()

    def top_tokens(self, node: RefNode, count: int, temperature: float) -> list[tuple[Tokens, float]]:
        """The most probable next tokens, the most probable first."""
        distribution = probabilities(self.world, node.text, temperature, None)
        raw = self.world.logits(node.text)
        ranked = sorted(distribution, key=lambda token: (-float(raw[token]), token))
        return [((token,), distribution[token]) for token in ranked[:count] if distribution[token] > 0]

    def longer_candidates(self, node: RefNode, q: int) -> list[tuple[Tokens, float]]:
        """The greedy set and up to q - 1 drawn ones, all different, the greedy probability adjusted."""
        length = self.set_length(node)
        greedy, greedy_probability = draw_set(self.world, self.rules, node, length, None)
        others: dict[Tokens, float] = {}
        allowed = 2 * q - 1 if self.rules.redraw else q - 1
        for number in range(1, allowed + 1):
            if self.rules.redraw and len(others) == q - 1:
                break
            if number > q - 1:
                self.events["redraw"] += 1
            tokens, probability = draw_set(self.world, self.rules, node, length, node.draws)
            node.draws += 1
            if tokens == greedy or tokens in others:
                self.events["duplicate draw"] += 1
            else:
                others[tokens] = probability
        if others:
            values = list(others.values())
            greedy_probability = max(min(greedy_probability, sum(values)), max(values) + min(values))
        return [(greedy, greedy_probability), *others.items()]

    # Widening

    def widen(self, node: RefNode) -> None:
        children = node.children
        k = len(children)
        length = self.set_length(node)
        judged = [child for child in children if child.evaluations > 0]
        if any(child.evaluations == 0 and not child.pruned for child in children):
            return
        if k >= self.rules.max_children or len(judged) < 2:
            return
        if any(child.value >= 0 for child in judged):
            return
        embeddings = np.array([child.embedding for child in judged])
        variance = ((embeddings - embeddings.mean(axis=0)) ** 2).sum(axis=0) / (len(judged) - 1)
        if math.sqrt((variance**2).sum()) >= self.rules.widening_variance * length:
            return
        if length == 1:
            first = self.top_tokens(node, k + 1, 1.0)
            if len(first) <= k:
                self.events["widening: none left"] += 1
                return
            tokens, probability = first[k]
        else:
            new = self.longer_candidates(node, 2)
            node.candidate_list = new + node.candidate_list
            if len(new) < 2 or any(child.tokens == new[1][0] for child in children):
                self.events["widening: nothing new"] += 1
                return
            first = node.candidate_list[: k + 1]
            tokens, probability = new[1]
        prior = probability / sum(p for _, p in first)
        if node is self.root:
            prior = (1 - self.rules.root_mix) * prior + self.rules.root_mix / (k + 1)
            self.events["widening at the root"] += 1
        self.events["widening: length 1" if length == 1 else "widening: longer"] += 1
        self.add_child(node, tokens, prior)


def search(world: World, preset: str = "paper-hh", **changes: object) -> RefRun:
    """Run one search with a preset's rules, some of them changed."""
    return BruteForce(world, replace(PRESETS[preset], **changes)).run()
