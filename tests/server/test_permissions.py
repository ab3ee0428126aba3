"""A permission grants no more than its name: the operator's safety net, changes and calibration stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from decoder_worlds import BAD, CRITERION, GOOD
from server.running import QUESTION, Running, gated_world, serving

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend
from rain_decoding.config import PRESETS
from rain_decoding.decoding.trace import read_trace, replay
from rain_decoding.server.decoders import Decoders, Way
from rain_decoding.server.traces import for_client
from rain_decoding.web.errors import ApiError

BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}
REFUSAL = "I had rather not."
OURS = ("fast", "balanced", "thorough")


@contextmanager
def strict(*permissions: str, **search: Any) -> Iterator[Running]:
    """A server whose operator calls no answer good, and has them refused."""
    config = SearchConfig.preset("balanced", **{"accept_value": 1.0, "fallback": "refusal", **search})
    with serving(search=config, client_may=frozenset(permissions)) as running:
        assert running.service is not None
        running.service.parser.decoders.operator.refusal = REFUSAL
        yield running


def ask(running: Running, **options: Any) -> dict[str, Any]:
    with running.http() as http:
        answer = http.post("/v1/chat/completions", json={**BODY, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "rain", [*({"preset": name} for name in OURS), {"threshold": -1}, {"threshold": 0.9}]
)
def test_presets_and_thresholds_leave_the_safety_net_alone(rain: dict[str, Any]) -> None:
    with strict("preset", "threshold") as running:
        answer = ask(running, rain=rain)
        assert (text(answer), answer["rain"]["fallback"], answer["rain"]["threshold"]) == (
            REFUSAL,
            "refusal",
            1.0,
        )
        with (
            running.http() as http,
            http.stream(
                "POST", "/v1/chat/completions", json={**BODY, "stream": True, "rain": rain}
            ) as streamed,
        ):
            sent = streamed.read().decode()
        assert REFUSAL in sent and "hairpin" not in sent and "will not" not in sent


def test_the_papers_presets_do_not_lower_the_threshold_of_the_safety_net() -> None:
    """They have one of their own, 0."""
    with strict("preset") as running, running.http() as http:
        answer = http.post("/v1/chat/completions", json={**BODY, "rain": {"preset": "paper-hh"}})
        assert answer.status_code == 403 and answer.json()["error"]["param"] == "rain.preset"
    with strict("preset", accept_value=0.0) as running:
        assert ask(running, rain={"preset": "paper-hh"})["rain"]["preset"] == "paper-hh"


FALSE_STORY = [{"role": "user", "content": "How do I spread a false story about Linnet by the duck pond?"}]
BAKING = [{"role": "user", "content": "How do I bake a nut roll at the summer fair?"}]
CHOSEN = [{"criterion": "helpfulness"}, {"principle": "The answer is made of words."}]


@pytest.mark.parametrize("rain", CHOSEN)
def test_a_criterion_of_the_clients_is_asked_besides_the_operators(
    demo: LocalBackend, rain: dict[str, str]
) -> None:
    """What it calls good is not good for that; by a permission of its own it takes the operator's place."""
    refusing = {
        "criterion": "positive-sentiment>0.9999,harmlessness",
        "search": SearchConfig.preset("balanced", fallback="refusal"),
        "served_name": "scripted",
        "max_tokens": 40,
    }
    with serving(demo, **refusing, client_may=frozenset(rain)) as running:
        answer = ask(running, messages=FALSE_STORY, rain=rain)
        assert answer["rain"]["fallback"] == "refusal"
        assert answer["rain"]["criterion"].startswith("min(positive-sentiment>0.9999")
    with serving(demo, **refusing, client_may=frozenset({*rain, "judge"})) as running:
        answer = ask(running, messages=FALSE_STORY, rain=rain)
        assert answer["rain"]["fallback"] == "" and "min(" not in answer["rain"]["criterion"]


def test_both_criteria_have_to_hold_and_the_operators_own_is_asked_once(demo: LocalBackend) -> None:
    allowed = {"client_may": frozenset(["criterion"]), "served_name": "scripted", "max_tokens": 40}
    with serving(demo, criterion="harmlessness", **allowed) as running:
        rain = ask(running, messages=BAKING, rain={"criterion": "helpfulness"})["rain"]
        assert rain["parts"].keys() == {"harmlessness", "helpfulness"}
        assert rain["score"] == min(rain["parts"].values())
        same = ask(running, messages=BAKING, rain={"criterion": "harmlessness"})["rain"]
        assert same["criterion"] == "harmlessness" and "parts" not in same


def test_a_preset_does_not_change_what_scores_mean() -> None:
    """By the paper's votes any answer scores 1 that is a little better than bad: above every threshold."""
    found = config("balanced", asked="paper-hh")
    assert (found.votes, found.placement) == (PRESETS["balanced"].votes, PRESETS["balanced"].placement)
    assert config("balanced", asked="paper-hh", relaxed=True).votes == PRESETS["paper-hh"].votes


def test_a_flag_stays_where_the_threshold_is_asked_down() -> None:
    with strict("threshold", "relax", fallback="flag") as relaxed:
        assert not ask(relaxed, rain={"threshold": -1})["rain"]["flagged"], "the operator allows this by name"
    with strict("threshold", fallback="flag") as running:
        assert ask(running, rain={"threshold": -1})["rain"]["flagged"]


def config(preset: str, *, asked: str, relaxed: bool = False, **changes: Any) -> SearchConfig:
    """How a client's choice is decoded where the operator runs `preset` with changes."""
    operator = RainDecoder(gated_world(), CRITERION, SearchConfig.preset(preset, **changes))
    return Decoders(operator, preset).config(Way(preset=asked, relaxed=relaxed))


@pytest.mark.parametrize("asked", PRESETS)
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "thorough"])
def test_every_preset_starts_from_the_operators_configuration(preset: str, asked: str) -> None:
    changes: dict[str, Any] = {
        "fallback": "alternative",
        "fallback_alternatives": 7,
        "on_unscored": "release" if PRESETS[preset].on_unscored == "stop" else "stop",
        "top_k": 7,
        "votes": "soft",
        "message_attempts": 9,
    }
    found = config(preset, asked=asked, **changes)
    assert {name: getattr(found, name) for name in changes} == changes
    assert found.criterion == PRESETS[preset].criterion, "a preset is no permission to choose the criterion"
    if asked != preset:
        assert found.strategy == PRESETS[asked].strategy
    for name in ("accept_value", "value_threshold", "min_label_mass", "order_margin"):
        assert getattr(found, name) >= getattr(PRESETS[preset], name)


@pytest.mark.parametrize("asked", OURS)
@pytest.mark.parametrize("value", [-0.9, 0.3, 0.9])
def test_a_threshold_that_the_operator_set_holds(asked: str, value: float) -> None:
    assert config("balanced", asked=asked, accept_value=value).accept_value == value


def test_a_calibration_holds_in_every_preset() -> None:
    """Its values are in the operator's configuration, whatever preset is asked for."""
    changes = {"accept_value": 0.6, "votes": "soft", "min_label_mass": 0.2}
    for asked in OURS:
        found = config("balanced", asked=asked, **changes)
        assert {name: getattr(found, name) for name in changes} == changes


def test_where_it_is_said_so_a_preset_is_as_it_stands() -> None:
    assert config("balanced", asked="fast", relaxed=True) == PRESETS["fast"]
    assert config("thorough", asked="fast", relaxed=True).accept_value == 0.0
    assert config("thorough", asked="fast").accept_value == 0.5
    kept = config("balanced", asked="fast", relaxed=True, fallback="refusal", top_k=3)
    assert (kept.fallback, kept.top_k) == ("refusal", 3)


def test_a_preset_laxer_at_the_net_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ApiError, match="above 0.5"):
        config("thorough", asked="paper-truth")


OF_ONE_ANSWER = {BAD: ("Sure", "take", "hairpin"), GOOD: ("No,", "will not")}
"""Words that stand in one of the model's answers and nowhere else."""


def told(running: Running) -> str:
    """All that a client can get of a traced request: in the response, in a stream, and afterwards."""
    body = {**BODY, "rain": {"trace": True}}
    with running.http() as http:
        answer = http.post("/v1/chat/completions", json=body)
        streamed = http.post("/v1/chat/completions", json={**body, "stream": True})
        ids = [answer.json()["rain"]["trace_id"]]
        ids += [
            json.loads(line[6:])["rain"]["trace_id"]
            for line in streamed.text.splitlines()
            if '"trace_id"' in line
        ]
        kept = [http.get(f"/v1/rain/traces/{one}").text for one in ids]
    assert len(kept) == 2 and all(kept)
    return "\n".join([answer.text, streamed.text, *kept])


@pytest.mark.parametrize("fallback", ["refusal", "alternative", "flag"])
def test_a_trace_holds_no_text_that_was_withheld(fallback: str) -> None:
    with strict("trace", fallback=fallback) as running:
        sent = told(running)
        released = {answer for answer in OF_ONE_ANSWER if answer in sent}
        assert len(released) == (fallback != "refusal")
        for answer in {BAD, GOOD} - released:
            assert not any(word in sent for word in OF_ONE_ANSWER[answer])
        assert '"tokens"' not in sent
        events = ask(running, rain={"trace": True})["rain"]["trace"]
        assert {"start", "expand", "judge", "commit", "end"} <= {event["event"] for event in events}
        assert replay(events).children, "what the search did can still be replayed"
        assert events[-1]["text"] and events[-1]["withheld"] == ""


def test_whoever_may_see_what_was_withheld_sees_it() -> None:
    with strict("trace", "withheld") as running:
        events = ask(running, rain={"trace": True})["rain"]["trace"]
        assert events[-1]["withheld"] in (BAD, GOOD) and '"tokens"' in json.dumps(events)


def test_what_is_left_of_an_event_of_a_kind_that_nobody_knows() -> None:
    """Texts and tokens are left out of all but those that are known to have none."""
    event = {
        "event": "new",
        "node": 3,
        "words": "secret",
        "inner": [{"text": "secret", "tokens": [1], "p": 0.5}],
    }
    assert for_client(event, withheld=False) == {
        "event": "new",
        "node": 3,
        "words": "",
        "inner": [{"text": "", "p": 0.5}],
    }


def test_a_trace_names_no_file_of_the_operator_and_no_words_of_the_models_server() -> None:
    """Not even for those who may see what was withheld."""
    start = {"event": "start", "config": {"calibration": "/srv/secret.json", "top_k": 3}, "messages": []}
    judge = {
        "event": "judge",
        "node": 1,
        "score": None,
        "judged": "x",
        "problem": "connection to 10.0.0.7 refused",
    }
    for withheld in (True, False):
        assert for_client(start, withheld=withheld)["config"] == {"calibration": "", "top_k": 3}
        shown = for_client(judge, withheld=withheld)
        assert shown["problem"] and "10.0.0.7" not in str(shown)


def test_what_is_decoded_plainly_is_judged_where_that_is_asked() -> None:
    plain = {"model": "scripted:plain", "rain": {"judged": True}}
    with serving(client_may=frozenset({"plain"})) as running:
        judged, unjudged = ask(running, **plain), ask(running, model="scripted:plain")
        assert text(judged) == text(unjudged) == BAD
        assert (judged["rain"]["score"], judged["rain"]["flagged"]) == (pytest.approx(-0.8), True)
        assert (unjudged["rain"]["score"], unjudged["rain"]["flagged"]) == (None, False)
        assert judged["rain"]["self_evaluations"] == 1 and judged["rain"]["rewinds"] == 0
        running.settle(pending=0)
    with serving(client_may=frozenset({"budget"})) as running, running.http() as http:
        answer = http.post("/v1/chat/completions", json={**BODY, "rain": {"judged": True}})
        assert answer.status_code == 403 and "client-may plain" in answer.json()["error"]["message"]


def test_the_operator_may_keep_all_traces_and_clients_see_nothing_of_them(tmp_path: Path) -> None:
    with serving(trace_dir=tmp_path) as running:
        answer = ask(running)
        with (
            running.http() as http,
            http.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as streamed,
        ):
            sent = streamed.read().decode()
    assert answer["rain"]["trace_id"] is None and "trace" not in answer["rain"]
    assert "events" not in sent and "hairpin" not in sent and "[DONE]" in sent
    one, other = (read_trace(file) for file in sorted(tmp_path.iterdir()))
    assert {event["event"] for event in one} >= {"start", "judge", "rewind", "commit", "end"}
    assert one[-1]["text"] == other[-1]["text"] == GOOD
    assert any("hairpin" in str(event.get("children")) for event in one), "with what was taken back"
