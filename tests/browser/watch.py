"""What goes wrong behind a page: errors in the console, failed requests, requests to elsewhere."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, Request

HERE = {"127.0.0.1", "localhost"}
LOCAL_SCHEMES = {"about", "blob", "chrome-error", "data"}


class Watch:
    """Record the problems of every page in the contexts that it is given."""

    def __init__(self):
        self._seen: list[str] = []
        self._allowed: list[re.Pattern] = []

    def follow(self, context: BrowserContext) -> None:
        """Record what happens in a context from now on."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self._seen.append(f"page error: {error.error}"))
        context.on("request", lambda request: self._address(request.url))
        context.on("requestfailed", self._failed)
        context.on("page", self._page)

    def allow(self, pattern: str, reason: str) -> None:
        """Let problems that the regular expression finds pass; say why they are harmless."""
        assert reason.strip(), f"say why {pattern!r} is harmless"
        self._allowed.append(re.compile(pattern))

    def problems(self) -> list[str]:
        """Return what was seen and not allowed, each once, in order."""
        return [
            seen
            for seen in dict.fromkeys(self._seen)
            if not any(pattern.search(seen) for pattern in self._allowed)
        ]

    def _page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self._address(socket.url))

    def _console(self, message) -> None:
        if message.type in ("error", "assert"):
            where = message.location.get("url", "")
            self._seen.append(f"console {message.type}: {message.text}  [{where}]")

    def _address(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme not in LOCAL_SCHEMES and address.hostname not in HERE:
            self._seen.append(f"request to another host: {url}")

    def _failed(self, request: Request) -> None:
        # A page that moves on takes back what it no longer needs.
        if request.failure != "net::ERR_ABORTED":
            self._seen.append(f"failed request: {request.failure}  [{request.url}]")
