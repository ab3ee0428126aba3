"""The application that `ServeSettings` describe, its model loaded."""

from __future__ import annotations

import logging
from functools import partial

from fastapi import FastAPI

from rain_decoding.backends import find_model
from rain_decoding.backends.names import public_name
from rain_decoding.decoding.loading import load_decoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.self_evaluation.loading import JudgeChoice
from rain_decoding.server.app import create_app
from rain_decoding.server.settings import ServeSettings
from rain_decoding.server.telemetry import otlp_provider

logger = logging.getLogger(__name__)


def _log_progress(done: int, of: int) -> None:
    """Say in the log that a probe is being fitted, and how far that is."""
    if done == 1 or done * 4 % of < 4:
        logger.info("fitting a probe: %d of %d examples read", done, of)


def application(settings: ServeSettings) -> FastAPI:
    """Load the model, and make the application that serves it, and what its server lists besides where none was named.

    Raises `ConfigError` before it loads anything.
    """
    config = settings.server_config()
    provider = otlp_provider() if settings.otel else None
    decoder = _decoder(settings, settings.model)
    named = settings.served_name or "#" in find_model(settings.model)[1]
    others = () if named else getattr(decoder.backend, "others", ())
    return create_app(
        decoder,
        config,
        preset=settings.preset,
        tracer_provider=provider,
        others={
            public_name(name): partial(_decoder, settings, name, decoder.shared_judge) for name in others
        },
    )


def _decoder(settings: ServeSettings, model: str, judge: JudgeChoice | None = None) -> RainDecoder:
    """The decoder of a model; `judge` where that is loaded already."""
    return load_decoder(
        model,
        criterion=settings.criterion,
        principle=settings.principle,
        judge=judge or settings.judge,
        preset=settings.preset,
        settings=settings.settings,
        fallback=settings.fallback,
        refusal=settings.refusal,
        embedding=settings.embedding,
        prompt_format=settings.prompt_format,
        thinking=settings.thinking,
        device=settings.device,
        dtype=settings.dtype,
        engine_options=settings.engine_options,
        trust_model_criteria=settings.trust_model_criteria,
        told=_log_progress,
    )
