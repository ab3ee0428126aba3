"""The rating page's server: blind, kept at once, resumable, and strict about what it takes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from evaluation.rating.rated import DECODERS, answers, write

from rain_decoding.errors import InputError
from rain_decoding.evaluation.rating.app import PAGE, create_app
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study
from rain_decoding.evaluation.rating.tasks import answer_tasks, pair_tasks
from rain_decoding.web.page import SHARED


class Client:
    """Asks the application of a folder, as a server that was just started would be."""

    def __init__(self, folder: Path, pairwise: bool = False):
        study = open_study(folder)
        tasks = pair_tasks(study) if pairwise else answer_tasks(study)
        self.app = create_app(tasks, RatingStore(folder))

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        async def asked() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=self.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(method, path, **options)

        return asyncio.run(asked())

    def tasks(self, rater: str) -> list[dict[str, Any]]:
        response = self.ask("GET", "/api/tasks", params={"rater": rater})
        assert response.status_code == 200
        return response.json()["tasks"]

    def rate(self, rater: str, task: str, question: str, value: Any) -> httpx2.Response:
        body = {"rater": rater, "task": task, "question": question, "value": value}
        return self.ask("POST", "/api/ratings", json=body)


def values(tasks: list[dict[str, Any]]) -> dict[tuple[str, str], str | None]:
    return {(task["id"], q["name"]): q["value"] for task in tasks for q in task["questions"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "run", answers())


@pytest.mark.parametrize("pairwise", [False, True])
def test_nothing_that_is_sent_depends_on_who_answered(tmp_path: Path, pairwise: bool) -> None:
    """The same answers by decoders of other names and in other places look the same to the last byte."""
    names = list(DECODERS)
    turned = ["plain", *names[:0:-1]] if pairwise else names[::-1]  # pairs are those with plain
    renamed = [{**r, "decoder": dict(zip(names, turned, strict=True))[r["decoder"]]} for r in answers()]
    sent = []
    for name, records in (("one", answers()), ("other", renamed[::-1])):
        client = Client(write(tmp_path / name, records), pairwise)
        paths = ("/", *(f"/page/{p.name}" for p in PAGE.iterdir()), "/api/tasks?rater=ann")
        responses = [client.ask("GET", path) for path in paths]
        assert all(response.status_code == 200 for response in responses)
        sent.append([r.content for r in (*responses, client.rate("ann", "x", "harmless", "yes"))])
    assert sent[0] == sent[1]
    told = sent[0][len(paths) - 1].decode()
    assert "Answer 0" in told and "harmless" in told
    for name in (*DECODERS, "oracle", "labels", "family", "subject", "score", "seed"):
        assert name not in told.lower()


def test_the_page_has_all_its_files_and_none_from_elsewhere(folder: Path) -> None:
    client = Client(folder)
    page = client.ask("GET", "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in (
        "rating.js",
        "progress.js",
        "sender.js",
        "rating.css",
        *(path.name for path in SHARED.iterdir()),
    ):
        file = client.ask("GET", f"/page/{name}")
        assert file.status_code == 200 and "://" not in file.text.replace("http://www.w3.org/2000/svg", "")
    assert client.ask("GET", "/page/page.js").status_code == 404
    assert client.ask("GET", "/openapi.json").status_code == 404


def test_ratings_are_kept_at_once_and_found_by_the_next_server(folder: Path) -> None:
    client = Client(folder)
    first, second, *_ = client.tasks("ann")
    for task, value in ((first, "yes"), (second, "skip")):
        name = task["questions"][0]["name"]
        assert client.rate("ann", task["id"], name, value).status_code == 204
        last = json.loads((folder / "ratings.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        assert (last["rater"], last["task"], last["question"], last["value"]) == (
            "ann",
            task["id"],
            name,
            value,
        )
    again = Client(folder).tasks("ann")
    assert [task["id"] for task in again[:2]] == [first["id"], second["id"]]
    assert [task["questions"][0]["value"] for task in again[:2]] == ["yes", "skip"]
    assert sum(value is not None for value in values(again).values()) == 2
    assert set(values(Client(folder).tasks("bob")).values()) == {None}


def test_a_changed_mind_replaces_and_what_is_taken_back_is_open(folder: Path) -> None:
    client = Client(folder)
    task = client.tasks("ann")[0]
    key = (task["id"], task["questions"][0]["name"])
    for value in ("yes", "no", None, "yes", "skip", "no"):
        client.rate("ann", *key, value)
        for server in (client, Client(folder)):
            assert values(server.tasks("ann"))[key] == value


def test_a_rating_that_was_cut_off_is_open_again(folder: Path) -> None:
    client = Client(folder)
    keys = list(values(client.tasks("ann")))[:2]
    for key in keys:
        client.rate("ann", *key, "yes")
    file = folder / "ratings.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    found = values(Client(folder).tasks("ann"))
    assert [found[key] for key in keys] == ["yes", None]
    Client(folder).rate("ann", *keys[1], "no")
    assert [values(Client(folder).tasks("ann"))[key] for key in keys] == ["yes", "no"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"task": "unknown"}, 404),
        ({"question": "truthful"}, 404),
        ({"value": "maybe"}, 400),
        ({"value": "tie"}, 400),
        ({"value": True}, 422),
        ({"rater": " "}, 400),
        ({"rater": "majority"}, 400),
        ({"rater": "a\nb"}, 400),
        ({"rater": "a" * 41}, 400),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_kept(
    folder: Path, changes: dict[str, Any], status: int
) -> None:
    client = Client(folder)
    task = client.tasks("ann")[0]
    body = {"rater": "ann", "task": task["id"], "question": task["questions"][0]["name"], "value": "yes"}
    response = client.ask("POST", "/api/ratings", json={**body, **changes})
    assert response.status_code == status and not (folder / "ratings.jsonl").exists()


def test_a_rating_that_cannot_be_written_is_no_success(folder: Path) -> None:
    client = Client(folder)
    task = client.tasks("ann")[0]
    (folder / "ratings.jsonl").mkdir()
    response = client.rate("ann", task["id"], task["questions"][0]["name"], "yes")
    assert response.status_code == 507 and "could not be saved" in response.json()["error"]["message"]
    assert set(values(client.tasks("ann")).values()) == {None}


def test_a_file_that_holds_no_ratings_is_an_error_with_its_line(folder: Path) -> None:
    good = {"rater": "ann", "task": "t", "question": "harmless", "value": "yes"}
    for line in ("[]", "{}", "yes"):
        (folder / "ratings.jsonl").write_text(f"{json.dumps(good)}\n{line}\n", encoding="utf-8")
        with pytest.raises(InputError, match="line 2 is not a record"):
            RatingStore(folder)
