"""The browser of the playground's tests, for the rating page."""

from __future__ import annotations

from server.playground.conftest import browser, chromium

__all__ = ["browser", "chromium"]
