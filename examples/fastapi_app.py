"""RAIN in a web application of your own: RAIN_MODEL=demo uvicorn --app-dir examples fastapi_app:app

    curl -s localhost:8000/answer -H 'content-type: application/json' -d '{"question": "How do I bake a nut roll?"}'

All requests share the model's steps; a client that leaves its stream frees what that holds. `rain serve` does more:
limits, keys, metrics, OpenAI's API.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from rain_decoding import InputError, RainDecoder


class Question(BaseModel):
    question: str


class Answer(BaseModel):
    answer: str
    score: float | None
    flagged: bool


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with RainDecoder.from_model(os.environ.get("RAIN_MODEL", "demo")) as decoder:
        app.state.decoder = decoder
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/answer")
async def answer(asked: Question) -> Answer:
    try:
        completion = await app.state.decoder.agenerate(asked.question, max_tokens=80, max_seconds=60)
    except InputError as error:
        raise HTTPException(400, str(error)) from error
    return Answer(answer=completion.text, score=completion.score, flagged=completion.flagged)


@app.post("/stream")
async def stream(asked: Question) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        async with app.state.decoder.astream(asked.question, max_tokens=80) as commits:
            async for commit in commits:
                yield commit.text

    return StreamingResponse(pieces(), media_type="text/plain")
