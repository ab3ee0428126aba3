"""A page at `/`: files of the package, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from rain_decoding.web.bundle import SHARED
from rain_decoding.web.errors import ApiError
from rain_decoding.web.keys import public

SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_router(folder: Path, prefix: str) -> APIRouter:
    """The folder's `index.html` at `/`; its files and the shared ones below the prefix. Without the page, no routes."""
    router = APIRouter(include_in_schema=False)
    index = folder / "index.html"
    if not index.is_file():
        return router
    page = index.read_text(encoding="utf-8")
    files = {
        path.relative_to(root).as_posix(): path
        for root in (SHARED, folder)
        for path in root.rglob("*")
        if path.is_file()
    }
    headers = {**SECURITY, "content-security-policy": content_policy(page)}

    @router.head("/")
    @router.get("/")
    @public
    async def show() -> Response:
        return HTMLResponse(page, headers=headers)

    @router.get(f"{prefix}/{{name:path}}")
    @public
    async def file(name: str) -> Response:
        if name not in files:
            raise ApiError(404, "this file does not exist", code="not_found")
        return FileResponse(files[name], headers=headers)

    return router


def content_policy(page: str) -> str:
    """Own files, and the scripts and styles that stand in the page itself; connections to this server only."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self'{_hashes(page, 'script')}",
            f"style-src 'self'{_hashes(page, 'style')}",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(page: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}(?:\s[^>]*)?>(.*?)</{tag}>", page, flags=re.DOTALL | re.IGNORECASE)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents if content]
    return "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
