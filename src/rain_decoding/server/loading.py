"""The application that `ServeSettings` describe, its model loaded."""

from __future__ import annotations

from fastapi import FastAPI

from rain_decoding.decoding.loading import load_decoder
from rain_decoding.server.app import create_app
from rain_decoding.server.settings import ServeSettings
from rain_decoding.server.telemetry import otlp_provider


def application(settings: ServeSettings) -> FastAPI:
    """Load the model, and make the application that serves it. Raises `ConfigError` before it loads anything."""
    config = settings.server_config()
    provider = otlp_provider() if settings.otel else None
    decoder = load_decoder(
        settings.model,
        criterion=settings.criterion,
        principle=settings.principle,
        judge=settings.judge,
        preset=settings.preset,
        settings=settings.settings,
        fallback=settings.fallback,
        refusal=settings.refusal,
        embedding=settings.embedding,
        prompt_format=settings.prompt_format,
        thinking=settings.thinking,
        device=settings.device,
        dtype=settings.dtype,
    )
    return create_app(decoder, config, preset=settings.preset, tracer_provider=provider)
