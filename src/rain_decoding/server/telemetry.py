"""A span per request, where OpenTelemetry is there and a provider was given."""

from __future__ import annotations

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

NAMES = {
    "route": "http.route",
    "status": "http.response.status_code",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}
"""Facts that OpenTelemetry's conventions have a name for; the others are `rain.NAME`."""


class Tracing:
    """Makes spans with a provider; without one, none."""

    def __init__(self, provider: Any = None):
        self._tracer = None if provider is None else provider.get_tracer("rain_decoding", __version__)

    @contextmanager
    def span(self, scope: Scope, facts: dict[str, Any]) -> Iterator[None]:
        """A span around one request. `facts` are read at its end; what they hold of prompts is nothing."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        context = extract(dict(Headers(scope=scope)))
        with self._tracer.start_as_current_span(method, context, kind=SpanKind.SERVER) as span:
            yield
            if facts["route"] != OTHER:  # which is known behind routing only
                span.update_name(f"{method} {facts['route']}")
            for fact, value in facts.items():
                if isinstance(value, (str, int, float)):
                    span.set_attribute(NAMES.get(fact, f"rain.{fact.removeprefix('rain_')}"), value)
            if facts["status"] >= 500:
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
