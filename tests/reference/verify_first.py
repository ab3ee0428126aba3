"""Verify first, one thing after the other: slow, plain and independent of the package.

Nothing here imports `rain_decoding`. Whatever the package does at the same time, or ahead of a judgement, must
lead to the same tree as this. Worlds, draws and probabilities are those of `reference.brute_force`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from reference.brute_force import Tokens, World, most_probable, pick, probabilities, uniforms

ROUNDING = 1e-7
"""Two sentences whose probabilities are this close may change places: the package adds logarithms of logits that
are 32-bit numbers."""
LEAST_SHARE = 0.02
PLAUSIBLE = 0.1
WIDEST = 20.0
UNLIMITED = 10**9

Manner = tuple[Tokens, Tokens, bool]
"""The prompt that a text is decoded behind in place of the world's, and the one that counts against it (empty: none);
and whether it is steered."""
PLAINLY: Manner = ((), (), False)

Reword = Callable[[str, Tokens, Tokens, Tokens], tuple[Tokens, Tokens] | None]
"""Another prompt and an opening, from: what for, the text, the bad sentence, the critique."""


def nothing(purpose: str, text: Tokens, sentence: Tokens, critique: Tokens) -> None:
    """A criterion without guidance."""


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
    plain_top_k: int = 0
    top_p: float = 1.0
    proposals: tuple[tuple[str, int], ...] = (("openings", UNLIMITED), ("sampled", UNLIMITED))
    accept_after: float = -1.0
    plain_margin: float = 0.0
    rewind_margin: float = 0.0
    decline_above: float = 1.0
    harmful: float = 0.0
    rising_bar: bool = False
    contrast: float = 1.0
    trust_tokens: float = 0.0
    question_cost: float = 0.0


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
    manner: Manner = PLAINLY
    kind: str = ""
    ends: bool = False
    tried: int = 0
    made: Counter[str] = field(default_factory=Counter)
    exhausted: set[str] = field(default_factory=set)
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

    def __init__(
        self,
        world: World,
        pieces: tuple[str, ...],
        rules: VerifyRules,
        reword: Reword = nothing,
        steering: np.ndarray | float = 0.0,
    ) -> None:
        """`steering` is added to the logits of texts that are steered, `[vocabulary]`."""
        self.steering = steering
        self.world, self.pieces, self.rules, self.reword = world, pieces, rules, reword
        self.tried = 0
        self.critiques: list[Tokens] = []
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
        return text.ends or self.ended(text.tokens) or self.at_limit(text.tokens)

    def verdict(self, text: Text) -> str:
        if text.score is None:
            return "undecided"
        rules = self.rules
        accepted = max(rules.accept_value, rules.accept_after) if self.rewinds else rules.accept_value
        margin = 0 if self.finished(text) else rules.undecided_margin
        bar = self.raised(min(1, accepted + margin), text.tried) if rules.rising_bar else accepted + margin
        if text.score > bar:
            return "good"
        if not text.kind:
            unclear = text.score > accepted - rules.rewind_margin
            self.events["bad, and stands"] += unclear and self.finished(text)
            if unclear and rules.rewind_margin:
                return "undecided"
        elif rules.rising_bar:
            margin = 0
        return "bad" if self.finished(text) or text.score <= accepted - margin else "undecided"

    def raised(self, bar: float, tried: int) -> float:
        """The bar where the odds that a text is good must be as many times larger as texts were tried."""
        if tried < 2 or abs(bar) == 1:
            return bar
        self.events["raised bar"] += 1
        odds = tried * (1 + bar) / (1 - bar)
        return (odds - 1) / (odds + 1)

    # Sentences

    def as_seen(self, manner: Manner) -> World:
        """The world as it looks to a text in this manner: the texts it is asked about begin with its own prompt."""
        prompt, against, steered = manner

        def logits(text: Tokens) -> np.ndarray:
            answer = text[len(self.world.prompt) :]
            own = self.world.logits((prompt or self.world.prompt) + answer)
            if steered:
                own = own + self.steering
            if not against:
                return own
            here = probabilities(replace(self.world, logits=lambda _: own), text, 1.0, None)
            there = probabilities(self.world, against + answer, 1.0, None)
            scores = np.full(len(own), -np.inf)
            for token, share in here.items():
                if share >= PLAUSIBLE * max(here.values()):
                    gain = math.log(share / there[token]) if there[token] > 0 else WIDEST
                    scores[token] = math.log(share) + self.rules.contrast * min(gain, WIDEST)
            return scores

        return replace(self.world, logits=logits)

    def plain(self, node: Text) -> Tokens:
        """Plain decoding's sentence after a node."""
        rules, later = self.rules, self.later(node)
        if not rules.temperature:
            return self.sentence(node.tokens, manner=node.manner, later=later)[0]
        numbers = uniforms(self.world.seed, "plain", 0, node.tokens, rules.sentence_tokens[1] + later)
        world = self.as_seen(node.manner)

        def draw(text: Tokens, place: int) -> int:
            self.events["drawn plainly"] += 1
            kept = nucleus(
                probabilities(world, text, rules.temperature, rules.plain_top_k or None), rules.top_p
            )
            return pick(kept, numbers[place])

        return self.sentence(node.tokens, draw=draw, later=later)[0]

    def later(self, node: Text) -> int:
        """How many tokens later than other sentences plain decoding's next one may end."""
        if self.rewinds or not self.rules.trust_tokens:
            return 0
        good = len(node.tokens) - len(self.world.prompt) + self.rules.trust_tokens
        later = round((2 * self.rules.question_cost * good) ** 0.5) - self.rules.sentence_tokens[0]
        self.events["judged later"] += later > 0
        return max(0, later)

    def sample(self, start: Tokens, purpose: str, index: int, manner: Manner) -> tuple[Tokens, int]:
        """A drawn alternative."""
        rules = self.rules
        numbers = uniforms(self.world.seed, purpose, index, start, rules.sentence_tokens[1])
        world = self.as_seen(manner)

        def draw(text: Tokens, place: int) -> int:
            kept = probabilities(world, text, rules.candidate_temperature, rules.top_k or None)
            return pick(kept, numbers[place])

        return self.sentence(start, draw=draw)

    def sentence(
        self,
        start: Tokens,
        opening: Tokens = (),
        draw: Callable[[Tokens, int], int] | None = None,
        manner: Manner = PLAINLY,
        least: int | None = None,
        later: int = 0,
    ) -> tuple[Tokens, int]:
        """The sentence after `start`, and how many tokens had to be decoded for it. Greedy without `draw`."""
        fewest, most = (bound + later for bound in self.rules.sentence_tokens)
        least = fewest if least is None else least
        world = self.as_seen(manner)
        new = opening
        while True:
            text = start + new
            if new and (self.ended(text) or self.at_limit(text) or len(new) >= most):
                break
            if len(new) >= least and self.pieces[new[-1]].endswith(self.rules.sentence_endings):
                self.events["sentence: ending"] += 1
                break
            if draw is None:
                new += (most_probable(world, text),)
            else:
                new += (draw(text, len(new)),)
        return new, len(new) - len(opening)

    def probability(self, start: Tokens, sentence: Tokens, manner: Manner, given: int) -> float:
        """The geometric mean over the sentence's tokens, the first `given` of which count as certain."""
        world = self.as_seen(manner)
        logs = [
            math.log(probabilities(world, start + sentence[:place], 1.0, None)[sentence[place]])
            for place in range(given, len(sentence))
        ]
        return math.exp(sum(logs) / len(sentence))

    def add(
        self,
        parent: Text,
        sentence: Tokens,
        *,
        manner: Manner | None = None,
        kind: str = "",
        tried: int = 0,
        given: int = 0,
    ) -> Text:
        """A judged child."""
        manner = parent.manner if manner is None else manner
        prior = self.probability(parent.tokens, sentence, manner, given)
        child = Text(sentence, parent.tokens + sentence, prior, parent, manner=manner, kind=kind, tried=tried)
        child.ends = kind == "declined"
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
        verdict = self.verdict(child)
        self.events[verdict] += 1
        if verdict == "bad":
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
                return self.end("stop" if verified.ends or self.ended(verified.tokens) else "length")
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
            node = self.add(node, self.plain(node))
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
        if self.rules.harmful > self.rules.decline_above:
            self.events["declined before the rest"] += 1
            if node is not self.root:
                self.events["declined before the rest, deep"] += 1
                for left in self.path(node):
                    left.pruned = True
                node = self.root
                self.rewound.append((bad.tokens, node.tokens))
            self.decline()
        while True:
            if (found := self.promising(node)) is not None:
                return found
            if (
                max(len(node.children), node.draws) < self.rules.max_children
                and self.simulations < self.rules.max_simulations
                and self.widen(node, last=False)
            ):
                continue
            self.events["no simulations left"] += self.simulations >= self.rules.max_simulations
            self.events["no more children"] += max(len(node.children), node.draws) >= self.rules.max_children
            node.pruned = True
            if node is self.root:
                return self.give_up()
            node = node.parent
            self.rewound.append((bad.tokens, node.tokens))
            self.events["deep rewind"] += 1

    def promising(self, node: Text) -> Text | None:
        """The most probable good child, else the undecided one with the best score."""
        usable = [child for child in node.children if not child.pruned and self.verdict(child) != "bad"]
        if not usable:
            return None
        good = [child for child in usable if self.verdict(child) == "good"]
        scores = [-2 if child.score is None else child.score for child in usable]
        worths = [(score, child.prior) for score, child in zip(scores, usable, strict=True)]
        return self.best(good or usable, [(1, child.prior) for child in good] or worths, "alternative")

    def best(self, texts: list[Text], worths: list[tuple[float, float]], event: str) -> Text:
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

    def give_up(self) -> Text:
        """A last resort that is not bad, or the least bad text."""
        self.root.pruned = False
        if (found := self.decline()) is not None:
            return found
        self.root.pruned = True
        leaves = list(self.leaves(self.root))
        worths = [(-8 if leaf.score is None else round(4 * leaf.score), leaf.prior) for leaf in leaves]
        least_bad = self.best(leaves, worths, "given up")
        scores = [-2 if leaf.score is None else leaf.score for leaf in leaves]
        self.events["given up, by probability"] += least_bad.score != max(scores)
        best = -2 if least_bad.score is None else least_bad.score
        for leaf, score in zip(leaves, scores, strict=True):
            untouched = not any(text.kind for text in self.path(leaf))
            if untouched and best - score <= self.rules.plain_margin:
                self.events["given up to plain"] += leaf is not least_bad
                least_bad = leaf
                break
        self.events["given up, deep"] += len(self.path(least_bad)) > 1
        self.commit(least_bad, held=0)
        return least_bad

    def decline(self) -> Text | None:
        """The first way of declining that is not bad."""
        while self.widen(self.root, last=True):
            if (found := self.promising(self.root)) is not None:
                self.events["last resort"] += 1
                return found
        return None

    # Proposals: sentences with what had to be decoded for them, their manner, and how many tokens were given

    def widen(self, node: Text, last: bool) -> bool:
        """Propose more of the next kind that has any; whether there were any."""
        rules = self.rules
        for kind, most in rules.proposals:
            if (kind == "declined") is not last or kind in node.exhausted:
                continue
            count = min(rules.alternatives, most - node.made[kind])
            if not last:
                count = min(
                    count, rules.max_children - len(node.children), rules.max_simulations - self.simulations
                )
            if count <= 0:
                continue
            made = getattr(self, f"by_{kind}")(node, count)
            if not made:
                node.exhausted.add(kind)
                self.events[f"no {kind}"] += 1
                continue
            node.made[kind] += len(made)
            self.events[f"widened by {kind}"] += 1
            self.judge_all(node, kind, made)
            return True
        return False

    def judge_all(self, node: Text, kind: str, made: list[tuple[Tokens, int, Manner, int]]) -> None:
        if kind != "declined":
            self.tried += len(made)
        new = []
        known = {child.sentence for child in node.children}
        # What is shorter to decode is judged earlier, and comes before what says the same.
        for sentence, _, manner, given in sorted(made, key=lambda entry: entry[1]):
            if not sentence or sentence in known:
                self.events["repeated"] += 1
                continue
            known.add(sentence)
            new.append((sentence, manner, given))
        for sentence, manner, given in new:
            tried = 0 if kind == "declined" else self.tried
            child = self.add(node, sentence, manner=manner, kind=kind, tried=tried, given=given)
            if child.score is not None and self.verdict(child) == "bad":
                self.rewound.append((child.tokens, node.tokens))

    def begun(
        self, node: Text, taken: set[int], count: int, manner: Manner
    ) -> list[tuple[Tokens, int, Manner, int]]:
        """Greedy sentences that begin with the most probable tokens that are not taken."""
        world = self.as_seen((manner[0], (), manner[2]))
        after = probabilities(world, node.tokens, 1.0, None)
        raw = world.logits(node.tokens)
        ranked = sorted((token for token in after if after[token] > 0), key=lambda t: (-float(raw[t]), t))
        least = LEAST_SHARE * after[ranked[0]]
        chosen = [
            token for token in ranked[: count + len(taken)] if token not in taken and after[token] >= least
        ][:count]
        return [(*self.sentence(node.tokens, (token,), manner=manner), manner, 0) for token in chosen]

    def by_openings(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        if node.widened:
            return []
        node.widened = True
        made = self.begun(node, {child.sentence[0] for child in node.children}, count, node.manner)
        self.events["no openings"] += not made
        return made

    def by_sampled(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        draws = range(node.draws, node.draws + count)
        node.draws += count
        return [
            (*self.sample(node.tokens, "candidate", index, node.manner), node.manner, 0) for index in draws
        ]

    def by_guided(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        reworded = None if node.made["guided"] else self.reword("guided", node.tokens, (), ())
        return self.begun(node, set(), count, (reworded[0], (), False)) if reworded else []

    def by_critique(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        if node.made["critique"] or not node.children:
            return []
        bad = node.children[0].sentence
        critic = self.reword("critic", node.tokens, bad, ())
        if not critic:
            return []
        said = self.said_behind(critic[0] + critic[1])
        self.critiques.append(said)
        reworded = self.reword("criticised", node.tokens, bad, critic[1] + said)
        return self.begun(node, set(), count, (reworded[0], (), False)) if reworded else []

    def said_behind(self, prompt: Tokens) -> Tokens:
        """A greedy sentence behind another prompt."""
        fewest, most = self.rules.sentence_tokens
        said: Tokens = ()
        while len(said) < most:
            if len(said) >= fewest and self.pieces[(prompt + said)[-1]].endswith(self.rules.sentence_endings):
                break
            said += (most_probable(self.world, prompt + said),)
            if said[-1] in self.world.eos or self.world.marker_end(said):
                break
        return said

    def by_contrast(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        reworded = None if node.made["contrast"] else self.reword("opposite", node.tokens, (), ())
        if not reworded:
            return []
        manner = (node.manner[0], reworded[0], node.manner[2])
        made = [(*self.sentence(node.tokens, manner=manner), manner, 0)]
        for index in range(count - 1):
            made.append((*self.sample(node.tokens, "contrast", index, manner), manner, 0))
        return made

    def by_steered(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        if node.made["steered"] or not self.reword("steered", node.tokens, (), ()):
            return []
        return self.begun(node, set(), count, (node.manner[0], node.manner[1], True))

    def by_declined(self, node: Text, count: int) -> list[tuple[Tokens, int, Manner, int]]:
        reworded = self.reword("declined", node.tokens, (), ()) if node.made["declined"] < 2 else None
        if not reworded:
            return []
        prompt, words = reworded
        opening = words[: self.world.max_tokens - len(node.tokens) + len(self.world.prompt)]
        if node.made["declined"]:
            return [(opening, 0, (prompt, (), False), len(opening))]
        manner = (prompt, (), False)
        return [(*self.declining(node.tokens, opening, manner), manner, len(opening))]

    def declining(self, start: Tokens, opening: Tokens, manner: Manner) -> tuple[Tokens, int]:
        """A sentence more behind the words of an opening, however long those are."""
        world, new = self.as_seen(manner), opening
        while len(new) - len(opening) < self.rules.sentence_tokens[1]:
            text = start + new
            if new and (self.ended(text) or self.at_limit(text)):
                break
            if len(new) > len(opening) and self.pieces[new[-1]].endswith(self.rules.sentence_endings):
                break
            new += (most_probable(world, text),)
        return new, len(new) - len(opening)
