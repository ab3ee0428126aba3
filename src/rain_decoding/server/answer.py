"""What has come of a request so far, whatever API it came by."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import Request

from rain_decoding.server.exchange import Exchange
from rain_decoding.server.rain_object import rain_object, together, usage_object
from rain_decoding.server.schemas import ChatBody, CompletionBody
from rain_decoding.server.service import Service
from rain_decoding.server.traces import for_client, keep_trace
from rain_decoding.server.worker import Released
from rain_decoding.types import Completion


@dataclass
class Answer:
    """What has come of a request so far. `prefix` is what its id begins with."""

    service: Service
    request: Request
    body: ChatBody | CompletionBody
    prefix: str
    exchange: Exchange
    completions: dict[int, Completion] = field(default_factory=dict)
    rain: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = self.prefix + uuid.uuid4().hex
        self.started = False
        """Whether text was released."""

    async def collect(self) -> None:
        """Wait for all answers."""
        async for news in self.exchange.news():
            assert news is not None
            index, what = news
            if isinstance(what, Released):
                self.note_release(what)
            else:
                self.end(index, what.completion)

    def note_release(self, released: Released) -> None:
        if released.text and not self.started:
            self.started = True
            seconds = time.perf_counter() - self.request.state.started
            self.service.metrics.first_release.observe(seconds)
            self.request.state.facts["first_release"] = round(seconds, 4)

    def end(self, index: int, completion: Completion) -> None:
        """An answer is complete; its trace is kept for its key."""
        name, trace_id = self.id if len(self.exchange.requests) == 1 else f"{self.id}-{index}", None
        if self.service.config.trace_dir is not None and completion.trace:
            keep_trace(self.service.config.trace_dir, name, completion.trace)
        if self.body.rain.trace:
            trace_id = name
            self.service.traces.put(trace_id, self.request.state.key, self.events(completion.trace))
        preset = self.body.rain.preset or self.service.parser.decoders.preset
        if completion.withheld and completion.fallback != "alternative" and not self._may_see_withheld:
            completion = replace(completion, reasoning="")
        self.completions[index] = completion
        self.rain[index] = rain_object(self.exchange.session(index), completion, preset, trace_id)

    @property
    def _may_see_withheld(self) -> bool:
        return "withheld" in self.service.config.client_may

    def events(self, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Events of the trace as far as the client may see them, and wants to."""
        if not self.body.rain.trace:
            return []
        return [for_client(event, withheld=self._may_see_withheld) for event in events]

    @property
    def usage(self) -> dict[str, Any]:
        """Token counts as OpenAI's API names them; of the answers those that have ended."""
        lengths = [
            self.exchange.session(index).usage.prompt_tokens
            for index in range(0, len(self.exchange.requests), self.body.n)
        ]
        return usage_object(lengths, self.completions.values())

    def note_usage(self) -> None:
        """What the log and the span say about the request: nothing that the client wrote."""
        private = {"choices", "warnings", *(["criterion"] if self.body.rain.principle else [])}
        summary = together([self.rain[index] for index in sorted(self.rain)])
        self.request.state.facts |= {
            "model": self.body.model,
            "finish_reasons": [self.completions[index].finish_reason for index in sorted(self.completions)],
            **{name: value for name, value in self.usage.items() if name != "total_tokens"},
            **{f"rain_{name}": value for name, value in summary.items() if name not in private},
        }

    @property
    def summary(self) -> dict[str, Any]:
        """The `rain` object of the whole response, with the trace where it was asked for."""
        summary = together([self.rain[index] for index in sorted(self.rain)])
        if not self.body.rain.trace:
            return summary
        traces = [self.events(self.completions[index].trace) for index in sorted(self.completions)]
        return {**summary, "trace": traces[0] if len(traces) == 1 else traces}
