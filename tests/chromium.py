"""A real browser for tests: Chromium, one for all tests of a module, driven by Playwright.

tests/conftest.py offers the fixtures `browser` and `page_of` to every test. Playwright is imported when a test uses
them. Without Chromium, these tests are skipped with a reason, but never in CI.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Scheme = Literal["light", "dark"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
IN_CI = bool(os.environ.get("CI"))
WIDTHS = (390, 1600)


class PageOf:
    """Opens pages. Each has its own context, and shares no cookie, storage or tab with another page.

    `faults`: JavaScript errors and errors on the console, such as CSP violations, of all pages so far. `expected`:
    parts of the errors that the test causes itself.
    """

    def __init__(self, browser: "Browser", contexts: ExitStack) -> None:
        self.faults: list[str] = []
        self.expected: list[str] = []
        self._browser = browser
        self._contexts = contexts

    def __call__(self, url: str | None = None, *, scheme: Scheme = "light", width: int = 1280, height: int = 900,
                 **context: Any) -> "Page":  # fmt: skip
        made = self._contexts.enter_context(
            self._browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}, **context)
        )
        made.on("page", self._watch)
        page = made.new_page()
        if url is not None:
            page.goto(url)
        return page

    def unexpected(self) -> list[str]:
        """Returns the faults that the test did not cause itself."""
        return [fault for fault in self.faults if not any(part in fault for part in self.expected)]

    def _watch(self, page: "Page") -> None:
        def said(message: "ConsoleMessage") -> None:
            if message.type == "error":
                self.faults.append(f"{page.url}: {message.text} ({message.location.get('url')})")

        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", said)


def chromium() -> str:
    """Returns the path of Chromium. Without it, skips the test, or fails it in CI."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if IN_CI:
        pytest.fail("there is no Chromium here: apt-get install chromium")
    pytest.skip("there is no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One browser without a window, for all tests of a module.

    While it is open, Playwright's event loop runs in this thread, so asyncio.run() fails. Other modules need
    asyncio.run().
    """
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_of(browser: "Browser") -> Iterator[PageOf]:
    """Opens pages. Fails the test if a page has a JavaScript error or violates its content policy: see PageOf."""
    with ExitStack() as contexts:
        pages = PageOf(browser, contexts)
        yield pages
    assert not pages.unexpected(), "\n".join(pages.unexpected())


def violations(page: "Page") -> list[str]:
    """Returns what axe-core finds wrong with the page: each rule, with the elements that break it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {', '.join(node['html'][:200] for node in rule['nodes'][:5])}" for rule in found]


def overflow(page: "Page") -> int:
    """Returns by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
