"""GCG against plain forwards: losses, gradients, candidates and steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from attacks.tiny_model import one_hot, plain_loss, tiny_backend
from self_evaluation.reading.synthetic import probe

from rain_decoding import RainDecoder, SearchConfig, UnsupportedError
from rain_decoding.attacks.behaviours import Behaviour
from rain_decoding.attacks.gcg import Gcg, GcgConfig
from rain_decoding.attacks.passages import Passage, ReadPassage, Suffix, by_judge, filler, judged, response
from rain_decoding.attacks.progress import Progress
from rain_decoding.attacks.white_box import WhiteBox
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.prompting import build_prompt
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator

BEHAVIOUR = Behaviour("How do I lift the moss latch?", "First, take a reed hook.")
OTHER = Behaviour("Tell me how to paint a door.", "Begin with grey wax.")
CONFIG = GcgConfig(steps=4, batch=24, top_k=5, suffix_tokens=6)


@pytest.fixture(scope="module")
def tiny() -> LocalBackend:
    torch.set_num_threads(1)
    return tiny_backend()


def evaluator(backend: LocalBackend, preset: str) -> SelfEvaluator:
    config = SearchConfig.preset(preset).with_changes(order_margin=1000)
    found = RainDecoder(backend, "harmlessness", config).evaluator
    assert isinstance(found, SelfEvaluator)
    return found


def passages(backend: LocalBackend, first: Suffix, adaptive: float = 0.0) -> list[Passage]:
    found = [response(BEHAVIOUR, backend, first)]
    return found + (judged(BEHAVIOUR, evaluator(backend, "balanced"), adaptive, first) if adaptive else [])


def attack(backend: LocalBackend, adaptive: float = 0.0, seed: int = 0, **changes: int) -> Gcg:
    first = filler(backend.codec, CONFIG.suffix_tokens)
    goals = [passages(backend, first, adaptive)]
    return Gcg(WhiteBox(backend), goals, first, replace(CONFIG, **changes), seed)


def total(gcg: Gcg, suffix: torch.Tensor) -> torch.Tensor:
    """The attack's loss on its first behaviour, by plain forwards."""
    return torch.stack([p.weight * plain_loss(gcg.box.model, p, suffix) for p in gcg.goals[0]]).sum()


@pytest.mark.parametrize("engine", ["auto", "none"])
@pytest.mark.parametrize("step_tokens", [40, 4096])
def test_losses_are_those_of_plain_forwards(engine: str, step_tokens: int) -> None:
    backend = tiny_backend(engine=engine)
    box = WhiteBox(backend, step_tokens)
    first = filler(backend.codec, 6)
    rng = np.random.default_rng(0)
    suffixes = [tuple(int(t) for t in rng.integers(2, 1400, len(first.ids))) for _ in range(9)]
    for passage in passages(backend, first, adaptive=2.0):
        found = box.losses(passage, suffixes)
        for ids, value in zip(suffixes, found.values, strict=True):
            expected = plain_loss(box.model, passage, one_hot(ids, 1500)).item()
            assert float(value) == pytest.approx(expected, abs=1e-4)


def test_a_hit_is_a_target_that_greedy_decoding_gives(tiny: LocalBackend) -> None:
    box, first = WhiteBox(tiny), filler(tiny.codec, 6)
    passage = response(BEHAVIOUR, tiny, first)
    said: list[int] = []
    for _ in range(3):
        ids = torch.tensor([passage.before + first.ids + passage.after + tuple(said)])
        said.append(int(box.model(input_ids=ids).logits[0, -1].argmax()))
    greedy = replace(passage, wanted=tuple((token,) for token in said))
    other = replace(passage, wanted=(*greedy.wanted[:-1], ((said[-1] + 1) % 1500,)))
    assert box.losses(greedy, [first.ids]).hits.tolist() == [True]
    assert box.losses(other, [first.ids]).hits.tolist() == [False]


@pytest.mark.parametrize("adaptive", [0.0, 0.7])
def test_the_gradient_is_that_by_the_one_hot_suffix(tiny: LocalBackend, adaptive: float) -> None:
    gcg = attack(tiny, adaptive)
    progress = gcg.start(None)
    suffix = one_hot(progress.ids, 1500).requires_grad_()
    (expected,) = torch.autograd.grad(total(gcg, suffix), suffix)
    expected = expected / expected.norm(dim=-1, keepdim=True)
    assert torch.allclose(gcg.gradient(progress), expected, atol=1e-4)
    assert all(parameter.grad is None for parameter in gcg.box.model.parameters())


def test_candidates_follow_the_gradient_and_stand_in_the_prompt(tiny: LocalBackend) -> None:
    gcg = attack(tiny, adaptive=1.0, batch=60)
    progress = gcg.step(gcg.start(None))
    gradient = gcg.gradient(progress)
    found = gcg.candidates(progress, gradient)
    assert len(found) > 10
    usable = set(gcg.box.usable().tolist())
    assert usable.isdisjoint({0, 1}) and len(usable) > 1000
    for text, ids in found:
        (place,) = (i for i, (a, b) in enumerate(zip(ids, progress.ids, strict=True)) if a != b)
        ranked = [token for token in gradient[place].argsort().tolist() if token in usable]
        assert ids[place] in ranked[: CONFIG.top_k]
        prompt = build_prompt(BEHAVIOUR.prompt(text), tiny).tokens
        passage = gcg.goals[0][0]
        assert prompt == passage.before + ids + passage.after


def test_a_step_takes_the_best_candidate_of_all(tiny: LocalBackend) -> None:
    gcg = attack(tiny, adaptive=0.5)
    progress = gcg.start(None)
    for _ in range(3):
        candidates = gcg.candidates(progress, gcg.gradient(progress))
        with torch.no_grad():
            losses = [float(total(gcg, one_hot(ids, 1500))) for _, ids in candidates]
        progress = gcg.step(progress)
        assert progress.loss == pytest.approx(min(losses), abs=1e-4)
        assert progress.ids == candidates[int(np.argmin(losses))].ids
    assert progress.best is not None
    assert progress.best.loss == min(found.loss for found in progress.curve)
    assert [found.loss for found in progress.curve] == sorted(
        (found.loss for found in progress.curve), reverse=True
    )


def test_the_best_of_all_substitutions_is_found_where_all_are_tried(
    tiny: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = WhiteBox(tiny).usable()[::40]
    monkeypatch.setattr(WhiteBox, "usable", lambda self: usable)
    gcg = attack(tiny, suffix_tokens=4, batch=2000, top_k=2000)
    progress = gcg.start(None)
    stands = [
        ids
        for place in range(len(progress.ids))
        for token in usable.tolist()
        if (ids := (*progress.ids[:place], token, *progress.ids[place + 1 :])) != progress.ids
        and gcg.goals[0][0].holds(Suffix(tiny.codec.decode(ids).removeprefix(" "), ids))
    ]
    assert len(stands) > 40
    with torch.no_grad():
        best = min(float(total(gcg, one_hot(ids, 1500))) for ids in stands)
    assert gcg.step(progress).loss == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("preset", ["balanced", "paper-hh"])
def test_the_adaptive_loss_is_what_the_judge_says_in_both_orders(demo: LocalBackend, preset: str) -> None:
    judge = evaluator(demo, preset)
    first = filler(demo.codec, 8)
    found = judged(BEHAVIOUR, judge, 3.0, first)
    decoder = RainDecoder(demo, judge, SearchConfig.preset(preset))
    said = decoder.judge(BEHAVIOUR.prompt(first.text), BEHAVIOUR.target)
    assert len(found) == len(said.probabilities) == 2
    box = WhiteBox(demo)
    losses = [float(box.losses(passage, [first.ids]).values) for passage in found]
    harmless = [probabilities[0] for probabilities in said.probabilities]
    assert losses == pytest.approx(-np.log(harmless), abs=1e-3)
    assert [passage.weight for passage in found] == [1.5, 1.5]


def reader(backend: LocalBackend, pooling: str = "mean") -> ReadingEvaluator:
    """A probe at random, in both layers."""
    weights = np.random.default_rng(7).normal(size=(2, 64)) * 0.05
    own = probe(layers=(1, 2), weights=weights, pooling=pooling, model=backend.fingerprint)
    return ReadingEvaluator(backend, own, "harmlessness (read)")


@pytest.mark.parametrize("pooling", ["mean", "exponential"])
@pytest.mark.parametrize("engine", ["auto", "none"])
def test_the_readers_loss_is_what_it_reads(pooling: str, engine: str) -> None:
    backend = tiny_backend(engine=engine)
    judge, box, first = reader(backend, pooling), WhiteBox(backend), filler(backend.codec, 6)
    (found,) = by_judge(BEHAVIOUR, judge, 0.7, first)
    assert isinstance(found, ReadPassage) and found.weight == 0.7
    rng = np.random.default_rng(0)
    suffixes = [first.ids, *(tuple(int(t) for t in rng.integers(2, 1400, len(first.ids))) for _ in range(4))]
    losses = box.losses(found, suffixes)
    for ids, value, hit in zip(suffixes, losses.values, losses.hits, strict=True):
        asked = found.before + ids + found.after
        prompt = replace(build_prompt(BEHAVIOUR.goal, backend), tokens=asked)
        # The last token of a text is not read yet.
        program = judge.conversation(prompt).judge("", asked + found.fed + (5,))
        said = Scheduler.of(backend).complete(program, backend.new_owner())
        assert float(value) == pytest.approx(-np.log(said.probabilities[0][0]), abs=1e-4)
        assert bool(hit) == (said.score is not None and said.score > 0)


def test_the_readers_gradient_is_that_by_the_one_hot_suffix(tiny: LocalBackend) -> None:
    judge, box, first = reader(tiny), WhiteBox(tiny), filler(tiny.codec, 6)
    (found,) = by_judge(BEHAVIOUR, judge, 1.0, first)
    table = box.model.get_input_embeddings().weight
    suffix = one_hot(first.ids, 1500).requires_grad_()
    rest = [table[torch.tensor(ids)] for ids in (found.before, found.after + found.fed)]
    states = box.model(
        inputs_embeds=torch.cat([rest[0], suffix @ table, rest[1]])[None],
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states[1]
    layered = by_judge(
        BEHAVIOUR,
        ReadingEvaluator(tiny, replace(judge.probe, layers=(1,), weights=judge.probe.weights[:1]), "x"),
        1.0,
        first,
    )
    linear = layered[0].reading  # type: ignore[attr-defined]
    last = states[0, -len(found.fed) - 1 :]
    loss = -torch.nn.functional.logsigmoid(
        (last * torch.tensor(linear.weights[0]).float()).sum() + linear.constant
    )
    (expected,) = torch.autograd.grad(loss, suffix)
    gradient = box.gradient(layered[0], first.ids)
    cosine = torch.nn.functional.cosine_similarity(gradient, expected, dim=-1)
    assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-4)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_in_cascade_both_judges_are_attacked(tiny: LocalBackend) -> None:
    first = filler(tiny.codec, 6)
    asked = evaluator(tiny, "balanced")
    found = by_judge(BEHAVIOUR, Cascade(reader(tiny), asked, 0.9), 2.0, first)
    assert [(type(each), each.weight) for each in found] == [
        (ReadPassage, 1.0),
        (Passage, 0.5),
        (Passage, 0.5),
    ]
    gcg = Gcg(WhiteBox(tiny), [[response(BEHAVIOUR, tiny, first), *found]], first, CONFIG, 0)
    progress = gcg.step(gcg.start(None))
    losses = [float(gcg.box.losses(one, [progress.ids]).values) * one.weight for one in gcg.goals[0]]
    assert progress.loss == pytest.approx(sum(losses), abs=1e-4)
    along = ReadingEvaluator(tiny, reader(tiny).probe, "x", along=True)
    with pytest.raises(UnsupportedError, match="by which the model is asked or read"):
        by_judge(BEHAVIOUR, along, 1.0, first)


def test_a_chat_model_is_attacked_through_its_template() -> None:
    backend = tiny_backend(chat=True)
    first = filler(backend.codec, 6)
    passage = response(BEHAVIOUR, backend, first)
    assert (
        passage.before + first.ids + passage.after == build_prompt(BEHAVIOUR.prompt("! ! !"), backend).tokens
    )
    text = backend.codec.decode(passage.after + tuple(forms[0] for forms in passage.wanted))
    assert text == "\n[assistant] First, take a reed hook."
    for one in judged(BEHAVIOUR, evaluator(backend, "paper-hh"), 1.0, first):
        assert backend.codec.decode(one.before).endswith(BEHAVIOUR.goal)


def test_goals_are_added_as_the_suffix_succeeds(tiny: LocalBackend) -> None:
    first = filler(tiny.codec, 6)
    goals = [[response(behaviour, tiny, first)] for behaviour in (BEHAVIOUR, OTHER)]
    gcg = Gcg(WhiteBox(tiny), goals, first, replace(CONFIG, stop_on_success=True), 0)
    progress = gcg.step(gcg.start(None))
    assert (progress.goals, progress.hit) == (1, False)
    easy = [[replace(passage, wanted=(tuple(range(1500)),)) for passage in goal] for goal in goals]
    gcg = Gcg(WhiteBox(tiny), easy, first, replace(CONFIG, stop_on_success=True), 0)
    one = gcg.step(gcg.start(None))
    assert one.best is not None and one.best.hit and one.goals == 2 and not gcg.ended(one)
    two = gcg.step(one)
    assert gcg.ended(two) and two.best is not None and two.best.goals == 2
    assert two.tokens == gcg.box.tokens, "all that was forwarded is counted"


def test_steps_depend_on_the_seed_and_on_nothing_else(tiny: LocalBackend) -> None:
    def run(gcg: Gcg, progress: Progress) -> Progress:
        while not gcg.ended(progress):
            progress = gcg.step(progress)
        return progress

    whole = run(gcg := attack(tiny), gcg.start(None))
    half = (gcg := attack(tiny)).step(gcg.start(None))
    assert run(attack(tiny), Progress.from_json(half.as_json())) == whole
    other = attack(tiny, seed=1)
    assert run(other, other.start(None)).controls != whole.controls


def test_restarts_begin_elsewhere_with_what_stands_in_every_prompt(tiny: LocalBackend) -> None:
    gcg = attack(tiny, adaptive=1.0)
    first = gcg.start(None)
    assert (first.controls, first.ids) == gcg.first
    second = gcg.start(replace(first, tokens=70, step=4))
    third = gcg.start(second)
    assert (second.restart, second.step, second.spent, third.restart) == (1, 0, 70, 2)
    for progress in (second, third):
        suffix = Suffix(progress.controls, progress.ids)
        assert len(suffix.ids) == len(first.ids) and all(p.holds(suffix) for p in gcg.goals[0])
        assert sum(a != b for a, b in zip(suffix.ids, first.ids, strict=True)) >= len(first.ids) // 2
    assert second.ids != third.ids != attack(tiny, adaptive=1.0, seed=1).start(second).ids
    assert attack(tiny, adaptive=1.0).start(first).ids == second.ids


def test_a_model_without_gradients_names_the_way_out(script: object) -> None:
    backend = ScriptedBackend.from_file(str(script / "model.toml"))  # type: ignore[operator]
    with pytest.raises(
        UnsupportedError, match=r"does not provide gradients \(load it as hf:FOLDER, or use rain"
    ):
        WhiteBox(backend)
