"""One chat completion after the other from an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

import httpx2
from tenacity import Retrying

from rain_decoding.backends.proxies import http_client, proxy_for
from rain_decoding.backends.retries import Transient, policy, retry_after, temporary
from rain_decoding.errors import BackendError
from rain_decoding.secrets_in_text import without_secrets

ATTEMPTS = 5
TIMEOUT = 120.0
"""Seconds for one attempt."""


class ChatEndpoint:
    """Asks `model` at the base URL, at temperature 0; `pause` is about the seconds before the second attempt."""

    def __init__(self, url: str, model: str, *, key: str | None, pause: float, transport: Any = None):
        self.model, self.pause = model, pause
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = http_client(
            httpx2.Client, [url], base_url=url, headers=headers, timeout=TIMEOUT, transport=transport
        )

    def reply(self, messages: list[dict[str, str]]) -> tuple[str | None, str]:
        """The text of the reply; None, and why, where all attempts failed or it is no chat completion.

        Raises `BackendError` where the endpoint refuses the request.
        """
        body = {"model": self.model, "messages": messages, "temperature": 0}
        try:
            response = Retrying(**policy(ATTEMPTS, self.pause))(self._post, body)
        except Transient as error:
            return None, without_secrets(str(error))
        if not response.is_success:
            raise BackendError(f"{response.status_code}: {response.text[:200]}")
        try:
            return str(response.json()["choices"][0]["message"]["content"]), ""
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            return None, without_secrets(f"the reply is not a chat completion: {error!r}")

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        """The response to one attempt. Raises `Transient` where another may do better."""
        try:
            response = self._client.post("chat/completions", json=body)
        except httpx2.HTTPError as error:
            proxy = proxy_for(str(self._client.base_url))
            by = f" by the proxy {proxy}" if proxy and isinstance(error, httpx2.TransportError) else ""
            raise Transient(f"{type(error).__name__}{by}: {error}") from error
        if temporary(response.status_code):
            wait = retry_after(response.headers.get("Retry-After"))
            raise Transient(f"status {response.status_code}", wait)
        return response
