"""What every visit has in common: a browser that notes each request and each complaint. Knows playwright only."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
_LARGEST_BYTES = 300_000


class Visit:
    """A browser's window on one address."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        #: Statuses whose complaints are expected: browsers write a line for each.
        self.expected_statuses: set[int] = set()

    @contextmanager
    def page(self, size: dict[str, int] | None = None, **options: Any) -> Iterator[Page]:
        """A page of its own, with nothing remembered."""
        context = self._browser.new_context(viewport=size or DESKTOP, **options)
        try:
            yield self._watched(context)
        finally:
            context.close()

    def _watched(self, context: BrowserContext) -> Page:
        context.on("request", lambda request: self.requests.append(request.url))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        return page

    def _note(self, kind: str, text: str) -> None:
        expected = any(f"status of {status} " in text for status in self.expected_statuses)
        if kind in ("error", "warning") and not expected:
            self.complaints.append(text)

    def check(self) -> None:
        """See that nothing was asked of another host, and that the browser had nothing to complain of."""
        hosts = {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}
        assert hosts == {urlsplit(self.url).netloc}, hosts
        assert self.complaints == [], self.complaints


def shoot(page: Page, path: Path, *, full: bool = True) -> None:
    """Take a picture that a page of documentation can carry."""
    page.screenshot(path=path, full_page=full, animations="disabled")
    assert path.stat().st_size < _LARGEST_BYTES, f"{path.name} has {path.stat().st_size} bytes"


def visit(run: Callable[[Visit, dict[str, Any]], None]) -> None:
    """Entry point of a visit: browser, address and facts come on the command line."""
    chromium, url, facts = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            visited = Visit(browser, url)
            run(visited, json.loads(facts))
            visited.check()
        finally:
            browser.close()
