"""The page at `/`: only files of its folder, under a strict policy."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from rain_decoding.web.page import page_router

PAGE = '<html><style>p {}</style><script src="/playground/a.js"></script><script>run()</script></html>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "playground"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "a.js").write_text("let a")
    return folder


async def fetch(folder: Path, path: str) -> httpx2.Response:
    app = FastAPI()
    app.include_router(page_router(folder, "/playground"))

    @app.exception_handler(Exception)
    async def error(*_: object) -> httpx2.Response:
        raise AssertionError

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get(path)


def get(folder: Path, path: str) -> httpx2.Response:
    import asyncio

    return asyncio.run(fetch(folder, path))


def test_the_page_and_its_files(folder: Path) -> None:
    page = get(folder, "/")
    assert page.status_code == 200 and page.text == PAGE
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    run = base64.b64encode(hashlib.sha256(b"run()").digest()).decode()
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert policy["script-src"] == f"'self' 'sha256-{run}'"
    assert "unsafe" not in page.headers["content-security-policy"]
    file = get(folder, "/playground/a.js")
    assert file.text == "let a" and "javascript" in file.headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/playground/../secret", "/playground/%2e%2e/secret", "/playground//etc/passwd"]
)
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    assert get(folder, path).status_code in (404, 500)
    assert "secret" not in get(folder, path).text


def test_without_the_page_there_are_no_routes(tmp_path: Path) -> None:
    assert page_router(tmp_path, "/playground").routes == []
