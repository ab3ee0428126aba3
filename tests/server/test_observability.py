"""Metrics that add up, spans, and log lines."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from decoder_worlds import BAD
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GenAiOperationNameValues
from prometheus_client.parser import text_string_to_metric_families
from server.running import QUESTION, gated_world, serving

from rain_decoding.server.logs import JsonFormatter
from rain_decoding.server.traces import LARGEST, MOST, TraceStore


def test_metrics_are_the_sums_of_the_answers() -> None:
    with serving(gated_world(), client_may=frozenset({"plain"})) as running, running.http() as http:
        answers = []
        for seed in range(4):
            for model in ("scripted", "scripted:plain"):
                body = {"model": model, "messages": QUESTION, "seed": seed}
                answers.append(http.post("/v1/chat/completions", json=body).json())
        http.post("/v1/chat/completions", json={"model": "other", "messages": QUESTION})
        http.get("/v1/other/page")
        for name, key in {
            "simulations": "simulations",
            "rewinds": "rewinds",
            "self_evaluations": "self_evaluations",
            "tokens_forwarded": "search_tokens",
        }.items():
            total = sum(answer["rain"][key] for answer in answers)
            assert total > 0 and running.metric(f"rain_{name}_total") == total
        for name in ("prompt_tokens", "completion_tokens"):
            assert running.metric(f"rain_{name}_total") == sum(answer["usage"][name] for answer in answers)
        assert running.metric("rain_answers_total", finish_reason="stop") == len(answers)
        assert running.metric("rain_first_release_seconds_count") == len(answers)
        endpoint = "/v1/chat/completions"
        assert running.metric("rain_requests_total", endpoint=endpoint, status="200") == len(answers)
        assert running.metric("rain_requests_total", endpoint=endpoint, status="404") == 1
        assert running.metric("rain_requests_total", endpoint="other", status="404") == 1
        assert running.metric("rain_releases_total") >= len(answers)
        assert (running.metric("rain_running"), running.metric("rain_queue_length")) == (0, 0)


def test_a_text_that_cannot_be_judged_is_counted_and_filtered() -> None:
    from decoder_worlds import scripted

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"A": 1e-9, "B": 1e-9, " Sure": 1.0}
        return (
            {" Sure": 1.0}
            if text.endswith("Assistant:")
            else {"." if text.endswith(" Sure") else "<end>": 1.0}
        )

    with serving(scripted(script, ["A", "B", " Sure", "."])) as running, running.http() as http:
        answer = http.post("/v1/chat/completions", json={"model": "scripted", "messages": QUESTION}).json()
        assert answer["choices"][0]["finish_reason"] == "content_filter"
        assert answer["choices"][0]["message"]["content"] == ""
        assert answer["rain"]["finish_reason"] == "unjudged"
        assert running.metric("rain_unjudged_total") == 1
        assert running.metric("rain_judge_failures_total") > 0


def test_a_span_per_request() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serving(tracer_provider=provider) as running, running.http() as http:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = {"model": "scripted", "messages": QUESTION, "seed": 0}
        headers = {"traceparent": parent, "x-request-id": "mine"}
        answer = http.post("/v1/chat/completions", json=body, headers=headers).json()
        http.post("/v1/chat/completions", json={**body, "model": "other"})
        http.get("/v1/models/of-a-client")
        http.get("/v1/rain/traces/of-a-client")
        http.get("/of-a-client")
        http.request("OFACLIENT", "/of-a-client")
    made, span, refused, *others = exporter.get_finished_spans()
    assert span.name == "POST /v1/chat/completions" and span.attributes is not None
    assert f"{span.context.trace_id:032x}" in parent and span.parent is not None
    assert span.attributes["rain.request_id"] == "mine"
    assert span.attributes["http.response.status_code"] == 200
    assert made.name == "chat scripted" and made.attributes is not None
    assert made.parent is not None and made.parent.span_id == span.context.span_id
    assert made.attributes["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert made.attributes["rain.rewinds"] == answer["rain"]["rewinds"] > 0
    (verdict,) = made.events
    assert verdict.name == "gen_ai.evaluation.result" and verdict.attributes is not None
    assert verdict.attributes["gen_ai.evaluation.score.value"] == answer["rain"]["score"]
    assert verdict.attributes["gen_ai.evaluation.score.label"] == "pass"
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    named = {name for name in [*made.attributes, *verdict.attributes] if name.startswith("gen_ai.")}
    assert named <= known, "names of the conventions"
    assert made.attributes["gen_ai.operation.name"] in {one.value for one in GenAiOperationNameValues}
    assert made.attributes["gen_ai.request.model"] == "scripted"
    assert made.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    texts = [*made.attributes.values(), *span.attributes.values(), *verdict.attributes.values()]
    assert not any("lock" in str(value) for value in texts)
    assert refused.attributes is not None and refused.attributes["http.response.status_code"] == 404
    names = ["GET /v1/models/{name:path}", "GET /v1/rain/traces/{trace_id}", "GET", "HTTP"]
    assert [other.name for other in others] == names, "a client makes no new ones"
    assert [other.attributes["http.route"] for other in others[:2] if other.attributes] == [
        n[4:] for n in names[:2]
    ]


@pytest.mark.parametrize("log_prompts", [False, True])
def test_prompts_are_logged_only_if_asked(caplog: pytest.LogCaptureFixture, log_prompts: bool) -> None:
    caplog.set_level(logging.INFO, "rain_decoding.server")
    with serving(log_prompts=log_prompts) as running, running.http() as http:
        http.post("/v1/chat/completions", json={"model": "scripted", "messages": QUESTION})
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert ("pick a lock" in "".join(lines)) == log_prompts
    assert not any(BAD in line for line in lines)


def test_a_log_line_holds_what_was_passed_and_the_exception() -> None:
    try:
        raise ValueError("broken\n\ud800")
    except ValueError as error:
        record = logging.LogRecord(
            "n", logging.ERROR, "p", 1, "it %s", ("failed",), (type(error), error, None)
        )
    record.request_id = "x"
    entry = json.loads(JsonFormatter().format(record))
    assert (entry["message"], entry["request_id"], entry["level"]) == ("it failed", "x", "error")
    assert "broken" in entry["exception"]


def test_the_trace_store_is_bounded() -> None:
    store = TraceStore()
    for number in range(MOST + 3):
        store.put(str(number), "key", [{"event": "start", "number": number}])
    assert [store.get(str(number), "key") is None for number in range(5)] == [True] * 3 + [False] * 2
    assert store.get("4", "other") is None
    store.put("large", "key", [{"text": "x" * (LARGEST - 100)}])
    assert store.get("large", "key") is not None and store.get("4", "key") is None
    store.put("larger", "key", [{"text": "x" * LARGEST}])
    assert store.get("larger", "key") is None and store.get("large", "key") is None


def test_the_dashboard_shows_metrics_that_are_there() -> None:
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text(encoding="utf-8"))
    with serving(gated_world()) as running, running.http() as http:
        http.post("/v1/chat/completions", json={"model": "scripted", "messages": QUESTION, "seed": 0})
        http.post("/v1/chat/completions", json={"model": "scripted", "messages": QUESTION, "max_tokens": 0})
        families = text_string_to_metric_families(http.get("/metrics").text)
    told = [family for family in families if re.fullmatch(r"rain_\w+(?<!_created)", family.name)]
    samples = {f"{family.name}_total" if family.type == "counter" else family.name for family in told}
    samples |= {f"{family.name}_bucket" for family in told if family.type == "histogram"}
    shown = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\brain_\w+", target["expr"]))
            assert named and named <= samples, target["expr"]
            shown |= named
    unseen = {name for name in samples if name not in shown and f"{name}_bucket" not in shown}
    assert unseen == set(), "every metric is shown"
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
