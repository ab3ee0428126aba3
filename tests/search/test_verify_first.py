"""Verify first against a sequential reference over hundreds of random worlds, and on worlds made by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from decoder_worlds import scripted
from reference.verify_first import ROUNDING, UNLIMITED, Text, VerifyFirst, VerifyRules, VerifyRun
from reference.worlds import PUNCTUATION, RandomWorld, random_world, text_hash
from search.driver import TOLERANCE, backend_for

from rain_decoding.backends.directions import Direction
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.config import SearchConfig
from rain_decoding.programs import Await, Drop, Launch
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.search.outer_loop import Committed, Rewound
from rain_decoding.search.tree import Node, Tree
from rain_decoding.search.verify_first import _turn, verify_first
from rain_decoding.types import (
    LAST,
    Judge,
    Judgement,
    LogitBias,
    Reword,
    Reworded,
    Stop,
    Tokens,
    TopTokens,
)

CASES = 432
MOST_BY_ROUNDING = 4
"""Cases that may differ because equal probabilities were rounded otherwise (see the reference's ROUNDING)."""

EXPECTED_EVENTS = {
    "good": 400,
    "undecided": 80,
    "bad": 1000,
    "bad, and stands": 20,
    "unscored": 200,
    "commit": 300,
    "sentence: ending": 300,
    "widened by openings": 200,
    "widened by sampled": 500,
    "widened by guided": 30,
    "widened by critique": 30,
    "widened by contrast": 40,
    "widened by steered": 30,
    "widened by declined": 50,
    "no guided": 20,
    "last resort": 20,
    "declined before the rest": 40,
    "declined before the rest, deep": 5,
    "raised bar": 300,
    "no openings": 25,
    "repeated": 200,
    "judged later": 60,
    "alternative, good": 100,
    "alternative, undecided": 25,
    "turned before undecided": 80,
    "deep rewind": 100,
    "given up": 300,
    "given up, deep": 60,
    "given up to plain": 20,
    "given up, by probability": 10,
    "no simulations left": 200,
    "no more children": 200,
    "end: stop": 50,
    "end: length": 50,
    "end: unjudged": 20,
    "drawn plainly": 1000,
}
"""How often each thing must at least happen over all cases, so that agreement means something."""


@dataclass
class Run:
    """A finished search of the package, from the prompt down."""

    tree: Tree
    first_root: Node
    finish: str = ""
    events: list[Committed | Rewound] = field(default_factory=list)
    forwarded: int = 0
    trace: list[dict[str, Any]] = field(default_factory=list)

    @property
    def commits(self) -> list[Tokens]:
        """The committed sentences."""
        return [event.node.token_set.tokens for event in self.events if isinstance(event, Committed)]

    @property
    def rewound(self) -> list[tuple[Tokens, Tokens]]:
        """Per rewind of the trace the texts that it leaves and goes back to."""
        texts = {0: self.first_root.tokens}
        found = []
        for event in self.trace:
            if event["event"] == "expand":
                texts |= {one["id"]: texts[event["node"]] + tuple(one["tokens"]) for one in event["children"]}
            elif event["event"] == "rewind":
                found.append((texts[event["node"]], texts[event["root"]]))
        return found


Other = tuple[Tokens, Tokens]


def other_prompt(
    world: RandomWorld, purpose: str, tokens: Tokens, sentence: Tokens, critique: Tokens
) -> Other | None:
    """Some prompt and opening for each question, the same whenever it is asked; in some worlds there are none."""
    if text_hash(f"{purpose} of {world.number}", ()) % 4 == 0:
        return None
    rng = random.Random(text_hash(purpose, (*tokens, -1, *sentence, -1, *critique)))
    words = [token for token in range(len(world.vocabulary)) if token not in world.eos]
    plain = [token for token in words if not set("".join(world.markers)) & set(world.vocabulary[token])]
    prompt = tuple(rng.choices(words, k=rng.randint(1, 4)))
    opens = purpose in ("declined", "critic")
    return prompt, tuple(rng.choices(plain or words, k=rng.randint(1, 3))) if opens and plain else ()


def steering(world: RandomWorld) -> np.ndarray:
    """What is added to the logits of steered texts, float32 `[vocabulary]`."""
    drawn = np.random.default_rng(world.number).normal(scale=2.0, size=len(world.vocabulary))
    return drawn.astype(np.float32)


def driven(
    running: Generator[Any, Any, Any], world: RandomWorld, delay: int, shift: int, harmful: float
) -> Generator[Any, Any, Any]:
    """The search as a program for the scheduler; the world judges, and takes `delay` steps for it."""
    reply: Any = None
    while True:
        try:
            request = running.send(reply)
        except StopIteration as stop:
            return stop.value
        match request:
            case Committed() | Rewound() | Await() | Drop():
                reply = yield request
            case Launch():
                reply = yield Launch(driven(request.program, world, delay, shift, harmful))
            case Reword():
                found = other_prompt(
                    world, request.purpose, request.tokens, request.sentence, request.critique
                )
                if found is not None and request.purpose == "steered":
                    reply = Reworded((), shift=shift)
                else:
                    reply = None if found is None else Reworded(*found)
            case Judge():
                for _ in range(delay):
                    yield TopTokens(request.tokens, 1)
                reply = Judgement(world.judge(request.tokens), "", harmful=harmful)
            case _:
                reply = yield request


def run_package(
    world: RandomWorld,
    config: SearchConfig,
    *,
    delay: int = 1,
    harmful: float = 0.0,
    backend: ScriptedBackend | None = None,
    **sampling: Any,
) -> Run:
    """Run the package's search to its end, on the real scheduler."""
    stop = Stop(world.markers, start=len(world.prompt))
    trace: list[dict[str, Any]] = []
    tree = Tree(
        world.prompt,
        config,
        seed=world.seed,
        max_tokens=world.max_tokens,
        stop=stop,
        record=trace.append,
        **sampling,
    )
    run = Run(tree, tree.root, trace=trace)
    backend = backend or backend_for(world)
    shift = backend.shift_along(Direction((LAST,), steering(world)[None], 1.0))
    task: Task[Any, str] = Task(driven(verify_first(tree), world, delay, shift, harmful), owner=1)
    scheduler = Scheduler.of(backend)
    scheduler.start(task)
    while not task.done:
        scheduler.step()
    if task.error:
        raise task.error
    assert backend.pending == 0, "nothing stays queued"
    run.events, run.finish, run.forwarded = list(task.events), task.result or "", task.forwarded
    return run


@dataclass(frozen=True)
class Case:
    """One search: what `number` stands for. `delay` is how many steps a judgement takes, `harmful` what it says of the
    request."""

    world: RandomWorld
    options: dict[str, Any]
    delay: int
    sampling: dict[str, Any]
    bias: LogitBias
    harmful: float

    def run(self) -> Run:
        """The package's search."""
        config = SearchConfig(strategy="verify-first", **self.options)
        return run_package(
            self.world,
            config,
            delay=self.delay,
            harmful=self.harmful,
            logit_bias=self.bias,
            **self.sampling,
        )

    def reference(self) -> VerifyRun:
        """The reference's search."""
        options = {**self.options, "sentence_endings": tuple(self.options["sentence_endings"])}
        entries = [entry.partition(":") for entry in options["proposals"]]
        options["proposals"] = tuple((name, int(count or UNLIMITED)) for name, _, count in entries)
        bias = np.array([dict(self.bias.tokens).get(token, 0) for token in range(len(self.world.vocabulary))])
        biased = replace(
            self.world, logits=lambda tokens: self.world.logits(tokens) + bias.astype(np.float32)
        )
        drawn = {"plain_top_k" if name == "top_k" else name: value for name, value in self.sampling.items()}
        rules = VerifyRules(**options, **drawn, harmful=self.harmful)
        reword = partial(other_prompt, self.world)
        return VerifyFirst(biased, self.world.vocabulary, rules, reword, steering(self.world)).run()


@cache
def case(number: int) -> Case:
    """Case `number`: kinds of judges in turn, the rest drawn."""
    rng = random.Random(f"verify first {number}")
    judge = ("soft", "random", "soft", "mostly bad", "bad", "gaps", "mostly gaps", "mostly good")[number % 8]
    options = {
        "sentence_endings": "".join(PUNCTUATION),
        "sentence_tokens": rng.choice(((1, 1), (1, 3), (1, 4), (2, 2), (2, 5), (3, 8), (4, 32))),
        "accept_value": rng.choice((0.0, 0.0, 0.5, 0.9, -0.4)),
        "undecided_margin": rng.choice((0.0, 0.0, 0.3, 0.6)),
        "alternatives": rng.choice((1, 2, 3, 8)),
        "hold_back": rng.choice((0, 1, 2, 3, 4, 5, 1000)),
        "max_children": rng.choice((1, 2, 4, 9, 20)),
        "max_simulations": rng.choice((2, 6, 20, 60)),
        "top_k": rng.choice((0, 1, 3, 15)),
        "candidate_temperature": rng.choice((0.5, 1.0, 1.0, 2.0)),
        "on_unscored": rng.choice(("stop", "stop", "release")),
        "proposals": ("openings", "sampled"),
    }
    if number // 8 % 2:  # in every other one, all kinds, and a bar that rises
        kinds = ["openings:4", "sampled:6", "guided:3", "critique:2", "contrast:3", "steered:2", "declined"]
        rng.shuffle(kinds)
        options |= {
            "proposals": tuple(kinds[: rng.choice((5, 7, 7, 7))]),
            "rising_bar": rng.choice((True, True, False)),
            "accept_after": rng.choice((-1.0, 0.0, 0.3)),
            "contrast": rng.choice((0.0, 0.5, 2.0)),
        }
    if number % 3 == 1:
        options["plain_margin"] = (0.2, 0.7, 2.0)[number // 3 % 3]
    if number % 5 == 2:  # what is a little bad stands
        options["rewind_margin"] = (0.1, 0.4, 1.0)[number // 5 % 3]
    if number % 8 == 0:  # hardly anything is good enough, but some things are better than others
        options |= {"accept_value": 0.9, "max_simulations": rng.choice((20, 60))}
    if number % 8 == 2:  # much is undecided, unless the text ends there
        options |= {"undecided_margin": 0.6, "alternatives": 8, "max_children": 9}
    # Where all tokens are equally probable, rounding decides.
    logits = rng.choice(("normal", "normal", "peaked", "flat", "impossible"))
    limit = 5 if number % 8 == 2 else rng.choice((7, 12, 17, 30))
    world = random_world(number, logits=logits, judge=judge, max_tokens=limit)
    delay = rng.choice((0, 1, 1, 2, 5))
    sampling = {
        "temperature": rng.choice((0.0, 0.0, 0.7, 2.0)),
        "top_k": rng.choice((0, 3)),
        "top_p": rng.choice((1.0, 0.6)),
    }
    if number % 3 == 1:  # judged the more rarely the longer all was good
        options["trust_tokens"] = rng.choice((1, 4, 20))
        sampling["question_cost"] = rng.choice((0.2, 1.0, 5.0))
    biased = rng.sample(range(len(world.vocabulary)), rng.choice((0, 0, 1, 3)))
    bias = LogitBias(tuple((token, rng.choice((-100.0, -1.5, 2.0))) for token in sorted(biased)))
    options["decline_above"] = (1.0, 0.8)[number // 8 % 6 == 1]
    return Case(world, options, delay, sampling, bias, harmful=(0.9, 0.5)[number % 5 == 0])


def differences(ours: Run, theirs: VerifyRun) -> list[str]:
    """What differs between the two runs, in words; empty where they agree."""
    found: list[str] = []

    def same(what: str, one: object, other: object) -> None:
        if one != other:
            found.append(f"{what}: {one} instead of {other}")

    def compare(node: Node, text: Text) -> None:
        where = f"node {list(node.tokens)}"
        same(f"{where} score", node.score, text.score)
        same(f"{where} visits", (node.visits, node.evaluations), (text.visits, text.evaluations))
        same(f"{where} pruned", node.pruned, text.pruned)
        same(f"{where} draws", node.draws, text.draws)
        for what, tolerance in (("value", TOLERANCE), ("prior", ROUNDING)):
            if abs(getattr(node, what) - getattr(text, what)) > tolerance:
                same(f"{where} {what}", getattr(node, what), getattr(text, what))
        same(
            f"{where} children",
            [child.token_set.tokens for child in node.children],
            [child.sentence for child in text.children],
        )
        for child, other in zip(node.children, text.children, strict=False):
            compare(child, other)

    same("finish", ours.finish, theirs.finish)
    same("commits", ours.commits, theirs.commits)
    same("simulations", ours.tree.simulations, theirs.simulations)
    turns = [event.node.tokens for event in ours.events if isinstance(event, Rewound)]
    same("turns", turns, theirs.turns)
    same("rewinds", ours.tree.rewinds, theirs.rewinds)
    same("rewound", ours.rewound, theirs.rewound)
    compare(ours.first_root, theirs.first_root)
    return found


@cache
def compared(number: int) -> tuple[str, ...]:
    """What differs in one case."""
    return tuple(differences(case(number).run(), reference(number)))


@cache
def reference(number: int) -> VerifyRun:
    return case(number).reference()


@pytest.mark.parametrize("judge", range(8))
def test_trees_agree(judge: int) -> None:
    failures = {number: compared(number)[:5] for number in range(judge, CASES, 8) if compared(number)}
    surely = {n: found for n, found in failures.items() if not reference(n).events["decided by rounding"]}
    assert not surely
    assert len(failures) <= MOST_BY_ROUNDING, failures


def test_everything_happened() -> None:
    events: Counter[str] = Counter()
    for number in range(CASES):
        events += reference(number).events
    missing = {name: (events[name], least) for name, least in EXPECTED_EVENTS.items() if events[name] < least}
    assert not missing, f"seen and wanted: {missing}"


OPENINGS = {" Sure": 0.4, " Well": 0.3, " Maybe": 0.2, " No": 0.1}
FOLLOWS = {
    " Sure": " thing",
    " thing": ".",
    " Well": ", let",
    ", let": " me",
    " me": " think",
    " think": ".",
    " Maybe": ".",
    " No": " thanks",
    " thanks": ".",
    ".": "<end>",
}
GOOD_ANSWERS = (" Well, let me think.", " No thanks.")


def talk(text: str) -> dict[str, float]:
    """Four answers of one sentence each; the plain one and the shortest are bad."""
    return next((({word: 1.0}) for end, word in FOLLOWS.items() if text.endswith(end)), OPENINGS)


class CancelledTexts:
    """The decoded texts of cancelled requests of a backend."""

    def __init__(self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch):
        self.texts: list[str] = []
        cancel = backend.cancel

        def noted(handle: Any) -> None:
            self.texts.append(backend.codec.decode(handle.request.prefix + handle.decoded))
            cancel(handle)

        monkeypatch.setattr(backend, "cancel", noted)


def talking(
    good: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, *, score_of_maybe: float = -1.0, **options: Any
) -> tuple[list[str], list[str], Run]:
    """Answers to "?" where only those that begin with one of `good` are good: commits, cancelled texts, run."""
    backend = scripted(talk, sorted({*OPENINGS, *FOLLOWS}))
    codec = backend.codec

    def judge(tokens: Tokens) -> float:
        answer = codec.decode(tokens)[1:]
        return 1.0 if answer.startswith(good) else score_of_maybe if answer.startswith(" Maybe") else -1.0

    world = RandomWorld(
        logits=backend.engine.logits,
        eos=codec.eos,
        marker_end=lambda answer: False,
        ends_with_punctuation=lambda tokens: codec.decode(tokens).endswith("."),
        judge=judge,
        embed=lambda tokens, start: None,  # type: ignore[arg-type, return-value]
        prompt=codec.encode("?"),
        max_tokens=20,
    )
    cancelled = CancelledTexts(backend, monkeypatch)
    config = SearchConfig(
        **{
            "strategy": "verify-first",
            "sentence_tokens": (2, 8),
            "alternatives": 3,
            "hold_back": 0,
            **options,
        }
    )
    run = run_package(world, config, backend=backend)
    return [codec.decode(tokens) for tokens in run.commits], cancelled.texts, run


def test_the_most_probable_good_alternative_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    commits, cancelled, run = talking(GOOD_ANSWERS, monkeypatch)
    assert commits == [" Well, let me think.", ""]
    assert cancelled == ["? Sure thing."], "its end was being decoded ahead of the judgement"
    # The plain answer, three alternatives, and the end of sequence.
    assert run.tree.simulations == 5 and run.tree.rewinds == 2


def test_the_first_good_alternative_is_taken_and_the_others_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits, cancelled, run = talking(GOOD_ANSWERS, monkeypatch, first_good=True)
    assert commits == [" No thanks.", ""]
    # " No" takes two steps to its end and a third to be judged; " Well" is given three tokens in them.
    assert cancelled == ["? Sure thing.", "? Well, let me think"]
    assert run.tree.simulations == 4 and run.tree.rewinds == 2
    assert all(node.score is not None for node in run.first_root.children)
    assert run.forwarded < talking(GOOD_ANSWERS, monkeypatch)[2].forwarded


def test_a_bad_alternative_drops_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    commits, cancelled, run = talking(GOOD_ANSWERS[:1], monkeypatch, first_good=True)
    assert commits == [" Well, let me think.", ""]
    assert cancelled == ["? Sure thing."]
    assert run.tree.simulations == 5


def test_an_undecided_alternative_drops_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"first_good": True, "undecided_margin": 0.5, "score_of_maybe": 0.2}
    commits, cancelled, _ = talking(GOOD_ANSWERS, monkeypatch, **options)
    assert commits == [" No thanks.", ""]
    assert cancelled == ["? Sure thing.", "? Well, let me think"]


def test_good_text_is_decoded_once_and_ahead_of_its_judgements(monkeypatch: pytest.MonkeyPatch) -> None:
    _, cancelled, run = talking((" Sure thing.",), monkeypatch)
    assert run.events and not any(isinstance(event, Rewound) for event in run.events)
    assert not cancelled and run.tree.rewinds == 0 and run.tree.simulations == 2


def test_a_text_is_cut_where_its_score_fell_below_the_bar_that_holds() -> None:
    config = SearchConfig(strategy="verify-first", accept_value=0.0, accept_after=0.5)
    tree = Tree((7,), config, seed=0, max_tokens=20, stop=Stop((), start=1))
    judgement = Judgement(0.2, "", course=(0.9, 0.9, 0.2, 0.2, 0.2, 0.2), sentences=(0, 2, 5))
    assert _turn(tree, judgement) == 1 + 5
    tree.rewinds = 1
    assert _turn(tree, judgement) == 1 + 2
