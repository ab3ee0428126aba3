"""Verify first, one thing after the other: slow, plain and independent of the package.

Nothing here imports `rain_decoding`. Whatever the package does at the same time, or ahead of a judgement, must
lead to the same tree as this. Worlds, draws and probabilities are those of `reference.brute_force`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reference.brute_force import Tokens, World, most_probable, pick, probabilities, uniforms

ROUNDING = 1e-7
"""Two sentences whose probabilities are this close may change places: the package adds logarithms of logits that
are 32-bit numbers."""
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class VerifyRules:
    """The constants, named as the package's options."""

    sentence_endings: tuple[str, ...]
    sentence_tokens: tuple[int, int] = (4, 32)
    accept_value: float = 0.0
    undecided_margin: float = 0.0
    alternatives: int = 8
    hold_back: int = 1
    max_children: int = 20
    max_simulations: int = 50
    top_k: int = 15
    candidate_temperature: float = 1.0
    on_unscored: str = "stop"
    temperature: float = 0.0
    top_p: float = 1.0


def nucleus(distribution: dict[int, float], top_p: float) -> dict[int, float]:
    """The most probable tokens that hold `top_p` together, normalised; the lower id first among equals."""
    kept: dict[int, float] = {}
    for token in sorted(distribution, key=lambda t: (-distribution[t], t)):
        if sum(kept.values()) >= top_p:
            break
        kept[token] = distribution[token]
    return {token: share / sum(kept.values()) for token, share in kept.items()}


@dataclass(eq=False)
class Text:
    """A text that ends after a sentence: one node of the tree."""

    sentence: Tokens
    tokens: Tokens
    prior: float
    parent: Text | None = None
    score: float | None = None
    visits: int = 0
    evaluations: int = 0
    value: float = 0.0
    pruned: bool = False
    widened: bool = False
    draws: int = 0
    children: list[Text] = field(default_factory=list)


@dataclass
class VerifyRun:
    """What a search left behind, from the prompt down, with all that was given up."""

    first_root: Text
    commits: list[Tokens]
    finish: str
    simulations: int
    rewinds: int
    turns: list[Tokens]
    """Texts the search went on from after a bad judgement."""
    rewound: list[tuple[Tokens, Tokens]]
    """Each bad text, and the text at which alternatives to it were then looked for."""
    events: Counter[str]


class VerifyFirst:
    """One search over one world, whose vocabulary is `pieces`. `run()` does all of it."""

    def __init__(self, world: World, pieces: tuple[str, ...], rules: VerifyRules) -> None:
        self.world, self.pieces, self.rules = world, pieces, rules
        self.root = self.first_root = Text((), world.prompt, 1.0)
        self.commits: list[Tokens] = []
        self.turns: list[Tokens] = []
        self.rewound: list[tuple[Tokens, Tokens]] = []
        self.simulations = self.rewinds = 0
        self.events: Counter[str] = Counter()

    # What a text is

    def ended(self, tokens: Tokens) -> bool:
        """By itself: at an end of sequence or a marker."""
        answer = tokens[len(self.world.prompt) :]
        return bool(answer) and (answer[-1] in self.world.eos or self.world.marker_end(answer))

    def at_limit(self, tokens: Tokens) -> bool:
        return len(tokens) - len(self.world.prompt) >= self.world.max_tokens

    def finished(self, text: Text) -> bool:
        return self.ended(text.tokens) or self.at_limit(text.tokens)

    def verdict(self, text: Text) -> str:
        if text.score is None:
            return "undecided"
        margin = 0 if self.finished(text) else self.rules.undecided_margin
        if text.score > self.rules.accept_value + margin:
            return "good"
        return "bad" if text.score <= self.rules.accept_value - margin else "undecided"

    # Sentences

    def plain(self, start: Tokens) -> Tokens:
        """Plain decoding's sentence after `start`."""
        rules = self.rules
        if not rules.temperature:
            return self.sentence(start)[0]
        numbers = uniforms(self.world.seed, "plain", 0, start, rules.sentence_tokens[1])

        def draw(text: Tokens, place: int) -> int:
            self.events["drawn plainly"] += 1
            kept = nucleus(probabilities(self.world, text, rules.temperature, None), rules.top_p)
            return pick(kept, numbers[place])

        return self.sentence(start, draw=draw)[0]

    def sample(self, start: Tokens, index: int) -> tuple[Tokens, int]:
        """A drawn alternative."""
        rules = self.rules
        numbers = uniforms(self.world.seed, "candidate", index, start, rules.sentence_tokens[1])

        def draw(text: Tokens, place: int) -> int:
            kept = probabilities(self.world, text, rules.candidate_temperature, rules.top_k or None)
            return pick(kept, numbers[place])

        return self.sentence(start, draw=draw)

    def sentence(
        self, start: Tokens, opening: Tokens = (), draw: Callable[[Tokens, int], int] | None = None
    ) -> tuple[Tokens, int]:
        """The sentence after `start`, and how many tokens had to be decoded for it. Greedy without `draw`."""
        least, most = self.rules.sentence_tokens
        new = opening
        while True:
            text = start + new
            if new and (self.ended(text) or self.at_limit(text) or len(new) >= most):
                break
            if len(new) >= least and self.pieces[new[-1]].endswith(self.rules.sentence_endings):
                self.events["sentence: ending"] += 1
                break
            if draw is None:
                new += (most_probable(self.world, text),)
            else:
                new += (draw(text, len(new)),)
        return new, len(new) - len(opening)

    def probability(self, start: Tokens, sentence: Tokens) -> float:
        logs = [
            math.log(probabilities(self.world, start + sentence[:place], 1.0, None)[token])
            for place, token in enumerate(sentence)
        ]
        return math.exp(sum(logs) / len(logs))

    def add(self, parent: Text, sentence: Tokens) -> Text:
        """A judged child."""
        prior = self.probability(parent.tokens, sentence)
        child = Text(sentence, parent.tokens + sentence, prior, parent)
        parent.children.append(child)
        self.simulations += 1
        child.score = self.world.judge(child.tokens)
        if child.score is None:
            self.events["unscored"] += 1
            return child
        node: Text | None = child
        while node is not None:
            node.visits += 1
            node.evaluations += 1
            node.value += (child.score - node.value) / node.evaluations
            node = None if node is self.root else node.parent
        self.events[self.verdict(child)] += 1
        if self.verdict(child) == "bad":
            self.rewinds += 1
        return child

    # The search

    def run(self) -> VerifyRun:
        verified = self.root
        while True:
            if self.finished(verified):
                if verified.score is None and self.rules.on_unscored == "stop":
                    return self.end("unjudged")
                self.commit(verified, held=0)
                return self.end("stop" if self.ended(verified.tokens) else "length")
            verified = self.decode(verified)
            if self.verdict(verified) == "bad":
                verified = self.recover(verified)
                self.turns.append(verified.tokens)

    def end(self, finish: str) -> VerifyRun:
        self.events[f"end: {finish}"] += 1
        return VerifyRun(
            self.first_root,
            self.commits,
            finish,
            self.simulations,
            self.rewinds,
            self.turns,
            self.rewound,
            self.events,
        )

    def decode(self, node: Text) -> Text:
        """Plain sentences, down to a bad or a finished one."""
        while True:
            node = self.add(node, self.plain(node.tokens))
            if self.verdict(node) == "bad" or self.finished(node):
                return node
            if self.verdict(node) == "good":
                self.commit(node, self.rules.hold_back)

    def path(self, node: Text) -> list[Text]:
        """From below the root to the node."""
        if node is self.root:
            return []
        assert node.parent is not None
        return [*self.path(node.parent), node]

    def commit(self, node: Text, held: int) -> None:
        path = self.path(node)
        for child in path[: max(0, len(path) - held)]:
            self.commits.append(child.sentence)
            self.root = child
            self.events["commit"] += 1

    def recover(self, bad: Text) -> Text:
        node = bad
        while node.parent is not self.root and self.verdict(node.parent) != "good":
            node = node.parent
            self.events["turned before undecided"] += 1
        node.pruned = True
        node = node.parent
        self.rewound.append((bad.tokens, node.tokens))
        while True:
            usable = [child for child in node.children if not child.pruned and self.verdict(child) != "bad"]
            if usable:
                return self.best(
                    usable, [(self.verdict(child) == "good", child.prior) for child in usable], "alternative"
                )
            if (
                max(len(node.children), node.draws) < self.rules.max_children
                and self.simulations < self.rules.max_simulations
            ):
                self.widen(node)
                continue
            self.events["no simulations left"] += self.simulations >= self.rules.max_simulations
            self.events["no more children"] += max(len(node.children), node.draws) >= self.rules.max_children
            node.pruned = True
            if node is self.root:
                leaves = list(self.leaves(node))
                worths = [(-2 if leaf.score is None else round(leaf.score), leaf.prior) for leaf in leaves]
                least_bad = self.best(leaves, worths, "given up")
                scores = [-2 if leaf.score is None else leaf.score for leaf in leaves]
                self.events["given up, by probability"] += least_bad.score != max(scores)
                self.events["given up, deep"] += len(self.path(least_bad)) > 1
                self.commit(least_bad, held=0)
                return least_bad
            node = node.parent
            self.rewound.append((bad.tokens, node.tokens))
            self.events["deep rewind"] += 1

    def best(self, texts: list[Text], worths: list[tuple[int, float]], event: str) -> Text:
        """The first of those with the largest worth."""
        found = max(range(len(texts)), key=lambda place: (worths[place], -place))
        self.events[event] += 1
        self.events[f"{event}, {self.verdict(texts[found])}"] += 1
        kind, prior = worths[found]
        if sum(abs(prior - other) < ROUNDING for same, other in worths if same == kind) > 1:
            self.events["decided by rounding"] += 1
        return texts[found]

    def leaves(self, node: Text) -> Iterator[Text]:
        for child in node.children:
            yield from self.leaves(child) if child.children else (child,)

    def widen(self, node: Text) -> None:
        rules = self.rules
        count = min(
            rules.alternatives,
            rules.max_children - len(node.children),
            rules.max_simulations - self.simulations,
        )
        made: list[tuple[Tokens, int]] = []
        if not node.widened:
            node.widened = True
            firsts = {child.sentence[0] for child in node.children}
            after = probabilities(self.world, node.tokens, 1.0, None)
            raw = self.world.logits(node.tokens)
            ranked = sorted((token for token in after if after[token] > 0), key=lambda t: (-float(raw[t]), t))
            least = LEAST_SHARE * after[ranked[0]]
            openings = [
                token
                for token in ranked[: count + len(firsts)]
                if token not in firsts and after[token] >= least
            ][:count]
            made = [self.sentence(node.tokens, (token,)) for token in openings]
            self.events["widened by openings" if made else "no openings"] += 1
        if not made:
            draws = range(node.draws, node.draws + count)
            node.draws += count
            made = [self.sample(node.tokens, index) for index in draws]
            self.events["widened by samples"] += 1
        new: list[tuple[int, Tokens]] = []
        known = {child.sentence for child in node.children}
        for sentence, ticks in made:
            if sentence in known:
                self.events["repeated"] += 1
                continue
            known.add(sentence)
            new.append((ticks, sentence))
        for _, sentence in sorted(new, key=lambda entry: entry[0]):
            child = self.add(node, sentence)
            if self.verdict(child) == "bad":
                self.rewound.append((child.tokens, node.tokens))
