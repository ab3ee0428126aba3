"""A span per request, where OpenTelemetry is there and a provider was given, and one in it for what was generated.

The first is named and described by OpenTelemetry's conventions for HTTP servers, the second by those for generative AI
(`gen_ai.*`), with the search's figures (`rain.*`) and the judge's verdict, which is the event of an evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from rain_decoding.errors import MissingDependencyError
from rain_decoding.extras import install
from rain_decoding.version import __version__

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE")
"""Those that a span is named by; a client must not make new names."""

OTHER = "other"
"""The route of what is none."""

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
}
"""Routes that generate, and what the conventions call that."""

HTTP = {"route": "http.route", "status": "http.response.status_code", "request_id": "rain.request_id"}
"""Facts about the request, by the names of their attributes."""

GENERATED = {
    "model": "gen_ai.request.model",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "first_release": "gen_ai.response.time_to_first_chunk",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "rain_seed": "gen_ai.request.seed",
}
"""Facts about what was generated that the conventions have a name for; the others are `rain.NAME`."""


class Tracing:
    """Makes spans with a provider; without one, none."""

    def __init__(self, provider: Any = None):
        self._tracer: Any = None if provider is None else provider.get_tracer("rain_decoding", __version__)

    @contextmanager
    def span(self, scope: Scope, facts: dict[str, Any]) -> Iterator[None]:
        """A span around one request. `facts` are read at its end; what they hold of prompts is nothing."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        context = extract(dict(Headers(scope=scope)))
        began = time.time_ns()
        with self._tracer.start_as_current_span(method, context, kind=SpanKind.SERVER) as span:
            yield
            if facts["route"] != OTHER:  # which is known behind routing only
                span.update_name(f"{method} {facts['route']}")
            _describe(span, {name: facts[fact] for fact, name in HTTP.items()}, facts)
            if "model" in facts:
                self._generation(facts, began)

    def _generation(self, facts: dict[str, Any], began: int) -> None:
        """The span of what was generated, from `began` on, in nanoseconds of the clock."""
        operation = OPERATIONS.get(facts["route"], "chat")
        attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "rain"}
        for fact, value in facts.items():
            if fact not in HTTP:
                attributes[GENERATED.get(fact, f"rain.{fact.removeprefix('rain_')}")] = value
        span = self._tracer.start_span(f"{operation} {facts['model']}", start_time=began)
        _describe(span, attributes, facts)
        if facts.get("rain_score") is not None and "rain_criterion" in facts:
            verdict = {
                "gen_ai.evaluation.name": facts["rain_criterion"],
                "gen_ai.evaluation.score.value": facts["rain_score"],
                "gen_ai.evaluation.score.label": "fail" if facts.get("rain_flagged") else "pass",
            }
            span.add_event("gen_ai.evaluation.result", verdict)
        span.end()


def _describe(span: Any, attributes: dict[str, Any], facts: dict[str, Any]) -> None:
    from opentelemetry.trace import StatusCode

    for name, value in attributes.items():
        if isinstance(value, (str, int, float, list)):
            span.set_attribute(name, value)
    if facts["status"] >= 500:
        span.set_attribute("error.type", str(facts["status"]))
        span.set_status(StatusCode.ERROR)


def otlp_provider() -> Any:
    """A provider that sends spans over OTLP, set up by OpenTelemetry's environment variables."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingDependencyError(f"--otel needs {error.name}", hint=install("otel")) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "rain-serve"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
