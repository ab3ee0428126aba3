"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rain_decoding.server.worker import Observer, Worker
from rain_decoding.types import Completion
from rain_decoding.web.errors import ApiError

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics(Observer):
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rain_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"rain_{name}", text, labels, registry=registry, buckets=SECONDS)

        self.requests = counter("requests", "HTTP requests", "endpoint", "status")
        self.request_seconds = histogram("request_seconds", "Duration of HTTP requests", "endpoint")
        self.first_release = histogram("first_release_seconds", "From a request to its first released text")
        self.answers = counter("answers", "Answers that ended", "finish_reason")
        self.failures = counter("failures", "Answers that ended with an error", "status")
        self.unjudged = counter("unjudged", "Answers held back because they could not be judged")
        self.commits = counter("commits", "Commits of searches and of plain decoding")
        self.releases = counter("releases", "Pieces of text streamed to clients")
        self.totals = {
            "simulations": counter("simulations", "Simulations"),
            "rewinds": counter("rewinds", "Simulations whose judgement made the search rewind"),
            "self_evaluations": counter("self_evaluations", "Self-evaluations"),
            "unscored": counter("judge_failures", "Self-evaluations without a score"),
            "escalations": counter(
                "escalations", "Self-evaluations that a cascade passed on to another judge"
            ),
            "prompt_tokens": counter("prompt_tokens", "Tokens of prompts"),
            "completion_tokens": counter("completion_tokens", "Tokens of answers"),
            "search_tokens": counter("tokens_forwarded", "Tokens forwarded through the model"),
        }
        self._workers: list[Worker] = []

        def gauge(name: str, text: str, read: Callable[[Worker], int]) -> None:
            value = Gauge(f"rain_{name}", text, registry=registry)
            value.set_function(lambda: sum(map(read, self._workers)))

        gauge("queue_length", "Answers waiting", lambda worker: worker.queued)
        gauge("running", "Answers being searched", lambda worker: worker.running)
        gauge(
            "kv_slots",
            "Tokens whose keys and values are cached",
            lambda worker: worker.backend.counters.kv_slots,
        )
        gauge("stuck", "Models that do not respond", lambda worker: worker.stuck)

    def watch(self, worker: Worker) -> None:
        """Count this worker in the gauges."""
        self._workers.append(worker)

    def released(self, tokens: int, text: str) -> None:
        self.commits.inc(tokens > 0)
        self.releases.inc(bool(text))

    def ended(self, completion: Completion) -> None:
        self.answers.labels(completion.finish_reason).inc()
        self.unjudged.inc(completion.finish_reason == "unjudged")
        for name, total in self.totals.items():
            total.inc(getattr(completion.usage, name) or 0)  # what is not known is not counted

    def failed(self, error: ApiError) -> None:
        self.failures.labels(str(error.status)).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
