"""Who is listened to: which routes want a key, by which names a server is called, whose pages may change something."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cli.command import start
from decoder_worlds import CRITERION, GOOD
from evaluation.rating.rated import answers, write
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from server.running import PATIENCE, QUESTION, gated_world, serving

from rain_decoding import RainDecoder
from rain_decoding.server.app import create_app
from rain_decoding.server.config import ServerConfig
from rain_decoding.server.settings import ServeSettings
from rain_decoding.web.guard import HEAD_BYTES, Hosts
from rain_decoding.web.keys import is_public

KEY = "secret"
BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}

PUBLIC = {"/", "/playground/{name:path}", "/healthz", "/readyz", "/metrics"}
PROTECTED = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/systemone",
    "/v1/decisions",
    "/beta/litellm_basic_guardrail_api",
    "/v1/models",
    "/v1/models/",
    "/v1/models/{name:path}",
    "/v1/rain/config",
    "/v1/rain/traces/{trace_id}",
}
DOCUMENT = "/openapi.json"
"""FastAPI's own route: what the program is, and nothing of this server."""


def application(**config: Any) -> FastAPI:
    app = create_app(RainDecoder(gated_world(), CRITERION), ServerConfig(api_keys=(KEY,), **config))
    app.state.models.first.worker.start()
    return app


def all_routes(routes: Iterable[Any]) -> Iterator[Any]:
    """Also those of included routers."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else all_routes(included.routes)


def test_every_route_is_known_to_be_public_or_protected() -> None:
    """A new route wants a key unless it is marked; add it here either way."""
    routes = list(all_routes(application().routes))
    assert {route.path for route in routes} == PUBLIC | PROTECTED | {DOCUMENT}
    for route in routes:
        if route.path == DOCUMENT:
            continue
        assert isinstance(route, APIRoute), "others pass by the application's dependencies"
        assert is_public(route.endpoint) == (route.path in PUBLIC), route.path


def test_a_route_that_somebody_adds_wants_a_key() -> None:
    app, router = application(), APIRouter()

    @app.get("/new")
    @router.get("/included")
    async def new() -> str:
        return "told"

    app.include_router(router)
    client = TestClient(app)
    for path in ("/new", "/included"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": f"Bearer {KEY}"}).json() == "told"


def mounted(app: FastAPI) -> TestClient:
    outer = FastAPI()
    outer.mount("/rain", app)
    return TestClient(outer, base_url="http://x/rain")


def twice_mounted(app: FastAPI) -> TestClient:
    middle, outer = FastAPI(), FastAPI()
    middle.mount("/b", app)
    outer.mount("/a", middle)
    return TestClient(outer, base_url="http://x/a/b")


WAYS = {
    "plain": TestClient,
    "mounted": mounted,
    "mounted twice": twice_mounted,
    "root_path": lambda app: TestClient(app, base_url="http://x/rain", root_path="/rain"),
    "a root_path that a proxy has taken off": lambda app: TestClient(app, root_path="/rain"),
    "a root_path that looks like a public one": lambda app: TestClient(app, root_path="/healthz"),
}


@pytest.mark.parametrize("way", WAYS)
def test_keys_hold_wherever_the_application_is(way: str) -> None:
    client = WAYS[way](application())
    key = {"authorization": f"Bearer {KEY}"}
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": KEY}):
        for path in (
            "/v1/models",
            "/v1/models/",
            "/v1/models/scripted",
            "/v1/rain/config",
            "/v1/rain/traces/x",
        ):
            assert client.get(path, headers=headers).status_code == 401, path
        for path in (
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/messages",
            "/v1/responses",
            "/v1/systemone",
        ):
            # Before anything is read, so that a wrong body says nothing else.
            for sent in (json.dumps(BODY), "{", ""):
                assert client.post(path, content=sent, headers=headers).status_code == 401, (path, sent)
    assert client.get("/v1/models", headers=key).status_code == 200
    answer = client.post("/v1/chat/completions", json=BODY, headers=key)
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"] == GOOD
    assert client.get("/healthz").status_code == 200


def test_what_is_counted_and_traced_is_the_route_wherever_it_is(caplog: pytest.LogCaptureFixture) -> None:
    app = application()
    client = mounted(app)
    client.get("/v1/models/x", headers={"authorization": f"Bearer {KEY}"})
    client.get("/healthz")
    client.get("/none")
    text = client.get("/metrics").text
    assert 'rain_requests_total{endpoint="/v1/models/{name:path}",status="404"} 1.0' in text
    assert 'rain_requests_total{endpoint="/healthz",status="200"} 1.0' in text
    assert "/none" not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_the_head_alone(path: str) -> None:
    with serving() as running, running.http() as http:
        whole, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"") == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_the_list_of_models_with_a_slash_behind_it() -> None:
    with serving() as running, running.http() as http:
        assert http.get("/v1/models/").json() == http.get("/v1/models").json()


@contextmanager
def process(*arguments: str | Path) -> Iterator[str]:
    """Where a server of ours listens that is a process of its own."""
    with start(*arguments, "--port", "0", stdout=subprocess.DEVNULL) as running:
        try:
            assert running.stderr is not None
            for line in running.stderr:
                if found := re.search(r'"port": (\d+)', line) or re.search(r"http://127.0.0.1:(\d+)", line):
                    yield f"http://127.0.0.1:{found[1]}"
                    break
            else:
                pytest.fail("it did not start")
        finally:
            running.terminate()
            running.wait(PATIENCE)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both servers, each with a further name."""
    folder = tmp_path_factory.mktemp("doors")
    run = write(folder / "run", answers())
    with (
        process("serve", "--model", "demo", "--allowed-host", "rain.example") as serve,
        process("rate", run, "--no-browser", "--allowed-host", "rain.example") as rate,
    ):
        yield {"serve": serve, "rate": rate}


SERVERS = ("serve", "rate")
READ = {"serve": "/v1/models", "rate": "/api/tasks?rater=ann"}
CHANGE = {"serve": "/v1/completions", "rate": "/api/ratings"}


def told(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1",
             "0.0.0.0:{port}", "", "127.0.0.1@evil.example", "rain.example.evil", "xrain.example", "localhost:x"]
)  # fmt: skip
def test_other_names_are_refused(addresses: dict[str, str], server: str, host: str) -> None:
    """A page can let its own name point to the loopback, and then reads what is answered there."""
    host = host.format(port=addresses[server].rsplit(":", 1)[1])
    for path in ("/", READ[server]):
        assert told(httpx2.get(addresses[server] + path, headers={"host": host})) == (403, "host_not_allowed")
    answer = httpx2.post(addresses[server] + CHANGE[server], json={}, headers={"host": host})
    assert told(answer) == (403, "host_not_allowed")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80", "127.8.9.1", "rain.example."]
)
def test_names_of_the_loopback_and_allowed_ones_are_served(
    addresses: dict[str, str], server: str, host: str
) -> None:
    assert httpx2.get(addresses[server] + READ[server], headers={"host": host}).status_code == 200


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "sent",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost"}, {"origin": ""},
     {"origin": "http://127.0.0.1:1"}, {"origin": "file://"}, {"sec-fetch-site": "cross-site"},
     {"sec-fetch-site": "same-site"}, {"origin": "http://rain.example.evil"}],
)  # fmt: skip
def test_pages_of_others_change_nothing(addresses: dict[str, str], server: str, sent: dict[str, str]) -> None:
    answer = httpx2.post(addresses[server] + CHANGE[server], json={}, headers=sent)
    assert told(answer) == (403, "origin_not_allowed")


@pytest.mark.parametrize("server", SERVERS)
def test_own_pages_and_programs_may(addresses: dict[str, str], server: str) -> None:
    url = addresses[server]
    for sent in ({}, {"origin": url}, {"origin": url.upper()}, {"origin": "https://rain.example"},
                 {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):  # fmt: skip
        answer = httpx2.post(url + CHANGE[server], json={}, headers=sent)
        assert answer.status_code in (400, 422), "the empty body is what is wrong"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None,
                                  "text/plain; application/json", "application/jsonp", "application/xml"])  # fmt: skip
def test_a_body_has_to_say_that_it_is_json(addresses: dict[str, str], server: str, kind: str | None) -> None:
    """What forms of other pages can send unasked is not read."""
    headers = {} if kind is None else {"content-type": kind}
    answer = httpx2.post(addresses[server] + CHANGE[server], content="{}", headers=headers)
    assert answer.status_code == 415 and "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
def test_forms_of_json(addresses: dict[str, str], server: str, kind: str) -> None:
    answer = httpx2.post(addresses[server] + CHANGE[server], content="{}", headers={"content-type": kind})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("server", SERVERS)
def test_limits_of_heads_and_bodies_hold_on_both(addresses: dict[str, str], server: str) -> None:
    """A head that arrives at once is as large as one that comes in pieces."""
    url = addresses[server]
    for size, fits in ((HEAD_BYTES - 1000, True), (HEAD_BYTES, False), (4 * HEAD_BYTES, False)):
        answer = httpx2.get(url + READ[server], headers={"x-large": "x" * size})
        assert (answer.status_code == 200) == fits, size
        assert fits or answer.status_code in (400, 431)
    long = httpx2.post(url + CHANGE[server], json={"x": "x" * 2**20})
    assert told(long) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("listening", "named", "name", "allowed"),
    [
        ("127.0.0.1", (), "localhost", True),
        ("127.0.0.1", (), "[::1]", True),
        ("127.0.0.1", (), "192.168.0.7", False),
        ("0.0.0.0", (), "192.168.0.7", True),
        ("0.0.0.0", (), "evil.example", False),
        ("0.0.0.0", (), "localhost", True),
        ("::", (), "[fe80::1]", True),
        ("Rain.Local", (), "rain.local", True),
        ("127.0.0.1", ("*",), "evil.example", True),
        ("127.0.0.1", ("*.Example.org",), "a.example.org", True),
        ("127.0.0.1", ("*.example.org",), "a.b.example.org", True),
        ("127.0.0.1", ("*.example.org",), "example.org", False),
        ("127.0.0.1", ("*.example.org",), "badexample.org", False),
        ("127.0.0.1", (), "2130706433", False),
        ("127.0.0.1", (), "", False),
    ],
)
def test_names(listening: str, named: tuple[str, ...], name: str, allowed: bool) -> None:
    assert Hosts(listening, named).allows(name) == allowed


def test_the_settings_name_the_hosts() -> None:
    settings = ServeSettings(host="0.0.0.0", allowed_hosts=["rain.example"])  # type: ignore[arg-type]
    assert settings.server_config().hosts == Hosts("0.0.0.0", ("rain.example",))


def test_an_origin_that_the_operator_allows_may_ask() -> None:
    with serving(cors_origins=("https://app.example",)) as running, running.http() as http:
        for origin, status in (("https://app.example", 200), ("https://other.example", 403)):
            answer = http.post("/v1/chat/completions", json=BODY, headers={"origin": origin})
            assert answer.status_code == status
        preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
        assert http.options("/v1/chat/completions", headers=preflight).status_code == 200
