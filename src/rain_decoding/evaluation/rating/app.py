"""The page that raters use, and the two requests it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from rain_decoding.errors import InputError
from rain_decoding.evaluation.rating.questions import SKIP
from rain_decoding.evaluation.rating.store import RatingStore, checked_rater
from rain_decoding.evaluation.rating.tasks import Task, for_rater
from rain_decoding.web.bodies import BodyLimit, json_body
from rain_decoding.web.errors import ApiError, translated
from rain_decoding.web.guard import Guard, Hosts
from rain_decoding.web.page import page_router

PAGE = Path(__file__).with_name("page")
BODY_BYTES, BODY_SECONDS = 64 * 1024, 30.0
"""What a rating may hold, and how long it may take to arrive."""


class RatingBody(BaseModel):
    """A rating; without a value, that an earlier one is taken back."""

    rater: str
    task: str
    question: str
    value: str | None


def create_app(tasks: Sequence[Task], store: RatingStore, hosts: Hosts | None = None) -> FastAPI:
    """The page at `/`, a rater's tasks with what the rater said of them, and a way to say something.

    `hosts` are the names that the server may be called by; None: any.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(BodyLimit, most_bytes=BODY_BYTES, seconds=BODY_SECONDS)
    app.add_middleware(Guard, hosts=hosts)
    known = {(task.id, question.name): question.values for task in tasks for question in task.questions}
    app.include_router(page_router(PAGE, "/page"))

    @app.get("/api/tasks")
    async def get_tasks(rater: str) -> dict[str, Any]:
        name = checked_rater(rater)
        return {"rater": name, "tasks": [_shown(task, name, store) for task in for_rater(tasks, name)]}

    # Not a thread of its own: ratings are written one after the other.
    @app.post("/api/ratings", status_code=204)
    async def rate(body: Annotated[RatingBody, json_body(RatingBody)]) -> None:
        values = known.get((body.task, body.question))
        if values is None:
            raise ApiError(404, "this task does not exist; reload the page", code="not_found")
        if body.value is not None and body.value not in (*values, SKIP):
            raise ApiError(400, f"{body.value!r} is not an answer to this question", param="value")
        store.rate(checked_rater(body.rater), body.task, body.question, body.value)

    _add_errors(app)
    return app


def _shown(task: Task, rater: str, store: RatingStore) -> dict[str, Any]:
    return {
        "id": task.id,
        "prompt": task.prompt,
        "continues": task.format == "text",
        "answers": task.answers,
        "questions": [
            {
                "name": question.name,
                "text": question.text,
                "values": question.values,
                "value": store.values.get((rater, task.id, question.name)),
            }
            for question in task.questions
        ],
    }


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    @app.exception_handler(InputError)
    async def refused(_: Request, error: Exception) -> Response:
        return translated(error).response()

    @app.exception_handler(OSError)
    async def not_written(_: Request, error: OSError) -> Response:
        return ApiError(507, f"the rating could not be saved: {error.strerror}").response()
