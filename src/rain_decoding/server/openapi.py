"""Request bodies in the OpenAPI document: the endpoints read them by themselves, so FastAPI does not know of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

REFERENCE = "#/components/schemas/{model}"


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """What an endpoint's description says of its body, for `openapi_extra`."""
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI, *models: type[BaseModel]) -> None:
    """Let the document have the schemas of these bodies."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        _, found = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]
