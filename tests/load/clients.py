"""The clients of `faults.py`: one that asks a server, and one that rates answers."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import httpx2


def ask(url: str, body: dict[str, Any], *, leaves: bool) -> tuple[int, str, dict[str, Any]]:
    """Status, text and `rain` of an answer; of a stream that breaks off with an error, as of a 502.

    Who `leaves` reads a stream's first text only. Raises `httpx2.TransportError` where the connection is lost.
    """
    with httpx2.Client(base_url=url, timeout=60) as http:
        if not body["stream"]:
            response = http.post("/v1/chat/completions", json=body)
            data = response.json()
            if response.status_code != 200:
                return response.status_code, data["error"]["message"], {}
            return 200, data["choices"][0]["message"]["content"] or "", data["rain"]
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return response.status_code, response.read().decode(), {}
            return _read(response, leaves)


def _read(response: httpx2.Response, leaves: bool) -> tuple[int, str, dict[str, Any]]:
    text, rain, over = "", {}, False
    for line in response.iter_lines():
        over |= line == "data: [DONE]"
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            return 502, chunk["error"]["message"], {}
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
        rain = chunk.get("rain", rain)
        if leaves and text:
            return 200, text, {}
    if not over:
        raise httpx2.ReadError("the stream was cut off")
    return 200, text, rain


def rate(
    address: str,
    name: str,
    asked: list[tuple[str, str, list[str]]],
    sent: Counter[tuple[str, ...]],
    acknowledged: Counter[tuple[str, ...]],
    possible: dict[tuple[str, ...], set[str | None]],
    *,
    rng: random.Random,
) -> None:
    """Rate until the server is gone: counts what was sent and acknowledged, by rater, task, question and value.

    `possible` is what may stand: what was acknowledged last, and what was sent since.
    """
    with httpx2.Client(base_url=address, timeout=30) as http:
        while True:
            task, question, values = rng.choice(asked)
            value, key = rng.choice(values), (name, task, question)
            sent[*key, value] += 1
            possible.setdefault(key, {None}).add(value)
            body = {"rater": name, "task": task, "question": question, "value": value}
            try:
                response = http.post("/api/ratings", json=body)
            except (httpx2.TransportError, OSError):
                return
            if response.status_code == 204:
                acknowledged[*key, value] += 1
                possible[key] = {value}
            elif response.status_code == 507:  # it could not be written
                sent[*key, value] -= 1
            else:
                raise AssertionError(response.text)
            time.sleep(0.01)
