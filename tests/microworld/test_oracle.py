"""The oracle parses what the grammar writes, and nothing else."""

import numpy as np
import pytest

from rain_decoding.microworld import FAMILIES, answer, draw_request, label, oracle_score, sample_requests
from rain_decoding.microworld.answers import benign_roles, sensitive_roles
from rain_decoding.microworld.facts import FACTS
from rain_decoding.microworld.grammar import HARMFUL_ROLES, grammar, sentences
from rain_decoding.microworld.lexicon import Kind
from rain_decoding.microworld.requests import KIND_BY_NAME, Request, all_requests

DIALOGUES = ("sensitive", "benign", "look-alike")


def written(request: Request, roles: str) -> str:
    """An answer with the first sentence of each role."""
    return " ".join(grammar(request.kind, request.subject, request.context)[role][0] for role in roles)


def intended(roles: str) -> str:
    """The outcome of a role sequence, known from how it was generated."""
    body = roles.lstrip("123")[0]
    return {"x": "harmful", "r": "refused", "s": "helped", "d": "failed", "n": "failed"}[body]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("family", DIALOGUES)
def test_generated_label_is_parsed_label(family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for held_out in (False, True):
        request = draw_request(family, rng, held_out)
        make = sensitive_roles if family == "sensitive" else benign_roles
        roles = make(request, rng, 0.5)
        found = label(request, written(request, roles))
        assert found.outcome == intended(roles), (request, roles)
        assert found.harmless == (found.outcome != "harmful")
        assert not found.malformed


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_whole_answer_parses(family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    request = draw_request(family, rng, held_out=bool(seed % 2))
    assert not label(request, answer(request, rng)).malformed


@pytest.mark.parametrize("seed", range(20))
def test_forced_branches_are_recognised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    question = draw_request("question", rng, True)
    assert label(question, answer(question, rng, 1.0)).truthful is False
    assert label(question, answer(question, rng, 0.0)).truthful is True
    review = draw_request("review", rng, True)
    assert label(review, answer(review, rng, 1.0)).sentiment == 1
    assert label(review, answer(review, rng, 0.0)).sentiment in (-1, 0)


@pytest.mark.parametrize("seed", range(30))
def test_cut_answers_are_malformed_but_harm_stays_harm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    request = draw_request("sensitive", rng, True)
    text = answer(request, rng, 1.0)
    whole = label(request, text)
    cut = label(request, text[: -len(text.split()[-1])])
    assert cut.malformed
    assert cut.outcome == "malformed"
    assert cut.harmless is (None if whole.outcome == "refused" else False)


@pytest.mark.parametrize("seed", range(30))
def test_score_falls_once_and_never_recovers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    request = draw_request("sensitive", rng, True)
    text = answer(request, rng, 0.7)
    words = text.split(" ")
    scores = [oracle_score(request, " ".join(words[:n])) for n in range(len(words) + 1)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    assert scores[-1] == (1.0 if label(request, text).harmless else -1.0)


@pytest.mark.parametrize("family", ["question", "review"])
def test_score_of_a_whole_text_is_its_label(family: str) -> None:
    rng = np.random.default_rng(3)
    for request in sample_requests([family], 40, rng, held_out=True):
        assert oracle_score(request, "") == 0.0
        text = answer(request, rng)
        found = label(request, text)
        wanted = found.sentiment if family == "review" else (1 if found.truthful else -1)
        assert oracle_score(request, text) == wanted


def test_helpfulness_score_waits_for_the_body() -> None:
    rng = np.random.default_rng(5)
    request = draw_request("benign", rng, True)
    assert oracle_score(request, "", "helpfulness") == 0
    assert oracle_score(request, written(request, "12"), "helpfulness") == 0
    assert oracle_score(request, written(request, "1s"), "helpfulness") == 1
    assert oracle_score(request, written(request, "1d"), "helpfulness") == -1
    assert oracle_score(request, written(request, "r"), "helpfulness") == -1


@pytest.mark.parametrize("roles", ["", "2", "1", "13rwa", "xz", "rwx", "xr", "rwarwa", "wra", "11rwa", "21x"])
def test_forged_orders_are_malformed(roles: str) -> None:
    request = draw_request("sensitive", np.random.default_rng(1), True)
    found = label(request, written(request, roles))
    assert found.malformed
    assert found.harmless is (False if set(roles) & set(HARMFUL_ROLES) else None)


def test_mixed_and_foreign_texts() -> None:
    rng = np.random.default_rng(2)
    bake, other = (r for r in all_requests("benign")[::97][:2])
    assert label(bake, written(bake, "stu")).helpful is True
    assert label(bake, written(other, "stu")).outcome == "failed"
    assert label(bake, written(bake, "st") + " Utter nonsense here.").malformed
    sensitive = draw_request("sensitive", rng, True)
    assert label(sensitive, written(bake, "stu")).malformed
    stranger = next(r for r in all_requests("sensitive") if r.kind != sensitive.kind)
    foreign = label(sensitive, written(stranger, "xyz"))
    assert foreign.malformed
    assert foreign.harmless is False


def test_values_that_disagree_are_false() -> None:
    request = draw_request("question", np.random.default_rng(0), True)
    fact = FACTS[request.kind, request.subject]
    right = fact.topic.states[0].format(value=fact.true)
    wrong = fact.topic.supports[0].format(value=fact.false)
    assert label(request, f"{right} {wrong}").truthful is False
    assert label(request, right).truthful is True
    assert label(request, "Who knows?").malformed


@pytest.mark.parametrize("kind", KIND_BY_NAME.values(), ids=lambda kind: kind.name)
def test_sentences_have_one_role(kind: Kind) -> None:
    """No sentence serves two roles, and splitting at full stops gives sentences back."""
    texts = grammar(kind.name, kind.subjects[0], "at the mill")
    flat = [text for pool in texts.values() for text in pool]
    assert len(flat) == len(set(flat))
    for text in flat:
        assert sentences(text) == [text]


@pytest.mark.parametrize("kind", KIND_BY_NAME.values(), ids=lambda kind: kind.name)
def test_harm_shows_within_its_first_words(kind: Kind) -> None:
    """A harmful sentence shares its first three words with no harmless one of the same request."""
    texts = grammar(kind.name, kind.subjects[0], "at the mill")
    starts: dict[bool, set[str]] = {True: set(), False: set()}
    for role, pool in texts.items():
        starts[role in HARMFUL_ROLES].update(" ".join(text.split()[:3]) for text in pool)
    assert not starts[True] & starts[False]
