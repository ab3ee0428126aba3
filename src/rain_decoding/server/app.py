"""The ASGI application: endpoints and what lies around them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from rain_decoding.backends.names import public_name
from rain_decoding.config import DEFAULT_PRESET, PRESETS
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import RainError
from rain_decoding.self_evaluation.criterion import known_criteria
from rain_decoding.server.config import PERMISSIONS, ServerConfig
from rain_decoding.server.decoders import Decoders
from rain_decoding.server.generation import generate, unless_gone
from rain_decoding.server.metrics import Metrics
from rain_decoding.server.middleware import RequestRecord
from rain_decoding.server.models import Models
from rain_decoding.server.openapi import describe_bodies, request_body
from rain_decoding.server.protocols.completions import ChatWriter, TextWriter
from rain_decoding.server.protocols.decisions.body import DecisionsBody
from rain_decoding.server.protocols.decisions.deciding import decide
from rain_decoding.server.protocols.decisions.systemone import SystemOneBody
from rain_decoding.server.protocols.errors import error_response
from rain_decoding.server.protocols.guardrail import PATH as GUARDRAIL_PATH
from rain_decoding.server.protocols.guardrail import Guardrail, GuardrailBody
from rain_decoding.server.protocols.messages.body import CountBody, MessagesBody
from rain_decoding.server.protocols.messages.writer import MessagesWriter
from rain_decoding.server.protocols.responses.body import ResponsesBody
from rain_decoding.server.protocols.responses.writer import ResponsesWriter
from rain_decoding.server.reading import PromptReader
from rain_decoding.server.request_parser import RequestParser
from rain_decoding.server.schema_errors import told as schema_error
from rain_decoding.server.schemas import ChatBody, CompletionBody, without_unsupported
from rain_decoding.server.service import Service
from rain_decoding.server.telemetry import Tracing
from rain_decoding.server.trace_page import PLAYGROUND
from rain_decoding.server.traces import TraceStore
from rain_decoding.server.worker import Worker
from rain_decoding.version import __version__
from rain_decoding.web.bodies import BodyLimit, json_body
from rain_decoding.web.errors import RETRY_SECONDS, ApiError, json_response, translated
from rain_decoding.web.guard import Guard
from rain_decoding.web.keys import KeyCheck, public
from rain_decoding.web.page import page_router

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

BODIES = (
    ChatBody,
    CompletionBody,
    MessagesBody,
    CountBody,
    ResponsesBody,
    SystemOneBody,
    DecisionsBody,
    GuardrailBody,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": "An error in OpenAI's shape"}
    for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 502, 503, 504)
}


def create_app(
    decoder: RainDecoder,
    config: ServerConfig | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    tracer_provider: Any = None,
    others: Mapping[str, Callable[[], RainDecoder]] = MappingProxyType({}),
) -> FastAPI:
    """Make the server of a model.

    Args:
        decoder: Answers the requests. Once the server starts, the decoder's backend belongs to it alone.
        config: Limits, of each model, permissions and keys; None: the defaults of `ServerConfig`.
        preset: Name of the decoder's preset, from which requests that choose another one differ.
        tracer_provider: A provider of OpenTelemetry, for a span per request; None: no spans.
        others: Decoders of further models by the names that clients are to use, made, in a thread, when they are first
            asked for; with the same preset.

    Returns:
        The ASGI application.
    """
    config = config or ServerConfig()
    metrics, reader, traces = Metrics(), PromptReader(config.room, config.stuck_seconds), TraceStore()

    def service(decoder: RainDecoder, name: str) -> Service:
        backend = decoder.backend
        worker = Worker(
            backend,
            max_concurrent=config.max_concurrent,
            room=config.room,
            stuck_seconds=config.stuck_seconds,
            observer=metrics,
        )
        metrics.watch(worker)
        criteria = tuple(known for known in known_criteria(backend.criteria_dirs) if known != "principle")
        parser = RequestParser(config, Decoders(decoder, preset), name, criteria)
        return Service(config, parser, worker, metrics, reader, traces)

    def further(name: str, load: Callable[[], RainDecoder]) -> Service:
        return service(load(), name)

    models = Models(
        service(decoder, config.served_name or public_name(decoder.backend.name)),
        {name: partial(further, name, load) for name, load in others.items()},
    )
    app = FastAPI(
        title="rain serve",
        version=__version__,
        lifespan=_lifespan(models),
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(KeyCheck(config.api_keys))],
    )
    app.state.models = models
    _add_endpoints(app, models)
    if config.playground:
        app.include_router(page_router(PLAYGROUND, "/playground"))
    _add_errors(app)
    describe_bodies(app, *BODIES)
    # The last one added is the first to be asked.
    app.add_middleware(BodyLimit, most_bytes=config.max_body_bytes, seconds=config.body_seconds)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(Guard, hosts=config.hosts, origins=config.cors_origins, told=error_response)
    app.add_middleware(RequestRecord, metrics=metrics, tracing=Tracing(tracer_provider))
    return app


def _lifespan(models: Models) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.first.worker.start()
        watching = asyncio.create_task(_watch(models))
        yield
        models.close()
        watching.cancel()
        await asyncio.gather(*(asyncio.to_thread(service.worker.stop) for service in models.services))

    return lifespan


async def _watch(models: Models) -> None:
    """Fail whoever waits for a backend that hangs, and see when it is back."""
    while True:
        await asyncio.sleep(min(1.0, models.first.config.stuck_seconds / 4))
        for service in list(models.services):
            if failed := await asyncio.to_thread(service.worker.watch):
                requests = [answer.request_id for answer in failed]
                log.error(
                    "the model does not respond", extra={"model": service.parser.model, "requests": requests}
                )


def body_of(kind: type[BaseModel]) -> Any:
    """Reads the body of a request for an answer, without what the operator lets it do without."""

    def prepared(request: Request, content: dict[str, Any]) -> dict[str, Any]:
        first = request.app.state.models.first
        if not first.config.ignore_unsupported:
            return content
        penalties = first.parser.decoders.operator.backend.capabilities.penalties
        content, request.state.left_out = without_unsupported(content, kind, penalties=penalties)
        return content

    return json_body(kind, prepared)


def _add_endpoints(app: FastAPI, models: Models) -> None:
    first = models.first
    worker = first.worker

    @app.post("/v1/chat/completions", responses=ERRORS, openapi_extra=request_body(ChatBody))
    async def chat_completions(request: Request, body: Annotated[ChatBody, body_of(ChatBody)]) -> Response:
        return await generate(models, request, body, ChatWriter, "chatcmpl-")

    @app.post("/v1/completions", responses=ERRORS, openapi_extra=request_body(CompletionBody))
    async def completions(
        request: Request, body: Annotated[CompletionBody, body_of(CompletionBody)]
    ) -> Response:
        return await generate(models, request, body, TextWriter, "cmpl-")

    @app.post("/v1/messages", responses=ERRORS, openapi_extra=request_body(MessagesBody))
    async def messages(request: Request, body: Annotated[MessagesBody, body_of(MessagesBody)]) -> Response:
        return await generate(models, request, body.asked, MessagesWriter, "msg_")

    @app.post("/v1/messages/count_tokens", responses=ERRORS, openapi_extra=request_body(CountBody))
    async def count_tokens(
        request: Request, body: Annotated[CountBody, json_body(CountBody)]
    ) -> dict[str, int]:
        service = await unless_gone(request, models.serving(body.model))
        prompt = await service.read_prompt(request, body.chat())
        return {"input_tokens": len(prompt.tokens)}

    @app.post("/v1/responses", responses=ERRORS, openapi_extra=request_body(ResponsesBody))
    async def responses(request: Request, body: Annotated[ResponsesBody, body_of(ResponsesBody)]) -> Response:
        return await generate(models, request, body.asked, partial(ResponsesWriter, body), "resp_")

    @app.post("/v1/systemone", responses=ERRORS, openapi_extra=request_body(SystemOneBody))
    async def systemone(
        request: Request, body: Annotated[SystemOneBody, json_body(SystemOneBody)]
    ) -> Response:
        service = await unless_gone(request, models.serving(body.model, decodes=False))
        decided = await decide(service, request, body.about, body.wanted)
        return json_response(body.response(decided))

    @app.post("/v1/decisions", responses=ERRORS, openapi_extra=request_body(DecisionsBody))
    async def decisions(
        request: Request, body: Annotated[DecisionsBody, json_body(DecisionsBody)]
    ) -> Response:
        service = await unless_gone(request, models.serving(body.model, decodes=False))
        decided = await decide(service, request, body.about, body.wanted)
        return json_response(body.response(decided))

    guardrail = Guardrail(first)

    @app.post(GUARDRAIL_PATH, responses=ERRORS, openapi_extra=request_body(GuardrailBody))
    async def check(
        request: Request, body: Annotated[GuardrailBody, json_body(GuardrailBody)]
    ) -> dict[str, Any]:
        return await guardrail.check(request, body)

    def health(path: str) -> Callable[[F], F]:
        """A route for machines, which have no key and may want the head only."""

        def added(endpoint: F) -> F:
            app.head(path, include_in_schema=False)(public(endpoint))
            return app.get(path, responses=ERRORS)(endpoint)

        return added

    def model_object(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": first.created, "owned_by": "rain-decoding"}

    @app.get("/v1/models/", include_in_schema=False)
    @app.get("/v1/models", responses=ERRORS)
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [model_object(name) for name in models.names]}

    @app.get("/v1/models/{name:path}", responses=ERRORS)
    async def model(name: str) -> dict[str, Any]:
        if name not in models.names:
            raise ApiError(404, f"the model {name!r} does not exist", code="model_not_found", param="model")
        return model_object(name)

    @app.get("/v1/rain/config", responses=ERRORS)
    async def rain_config() -> dict[str, Any]:
        return describe(models)

    @app.get("/v1/rain/traces/{trace_id}", responses=ERRORS)
    async def trace(trace_id: str, request: Request) -> Response:
        lines = first.traces.get(trace_id, request.state.key)
        if lines is None:
            raise ApiError(404, "this trace does not exist, or is no longer kept", code="trace_not_found")
        return Response(lines, media_type="application/x-ndjson")

    @health("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @health("/readyz")
    async def readyz() -> Response:
        reason = worker.trouble if worker.accepting else "shutting down"
        content = {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
        if reason:
            return json_response(content, 503, {"retry-after": str(RETRY_SECONDS)})
        return json_response(content)

    @health("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(first.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def describe(models: Models) -> dict[str, Any]:
    """What a client may know and decide; of what differs between models, that of the first."""
    parser, config = models.first.parser, models.first.config
    operator = parser.decoders.operator
    return {
        "model": parser.model,
        "models": models.models,
        "counts_apart": operator.backend.capabilities.counts_apart,
        "presets": list(PRESETS),
        "criteria": list(parser.criteria),
        "defaults": {
            "preset": parser.decoders.preset,
            "criterion": operator.evaluator.name,
            "max_tokens": config.max_tokens,
            "max_seconds": config.max_seconds,
            "max_search_tokens": config.max_search_tokens,
        },
        "judge": {
            "proven": operator.judge_is_proven,
            "doubt": getattr(operator.evaluator, "doubt", ""),
        },
        "client_may": [name for name in PERMISSIONS if name in config.client_may],
        "version": __version__,
    }


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return error_response(request.scope, error)

    @app.exception_handler(RainError)
    async def refused(request: Request, error: RainError) -> Response:
        told = translated(error)
        if told.status >= 500:
            raise error  # to be logged
        return error_response(request.scope, told)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(request.scope, schema_error(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        response = error_response(request.scope, ApiError(error.status_code, str(error.detail), code=code))
        response.headers.update(error.headers or {})
        return response
