"""A real browser for tests: the machine's Chromium, one for all tests of a module, driven by Playwright.

tests/conftest.py offers the fixtures `browser` and `page_of` to every test. Playwright is imported when one asks for
them. Where there is no Chromium these tests are skipped by name, and never in CI.
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
    """Opens pages, each in a context of its own: no cookie, storage or tab of another page.

    `faults` are the JavaScript errors, and the errors of the console (CSP violations among them), of all pages so far.
    `expected` are parts of those that a test provokes.
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
        """The faults that no test provoked."""
        return [fault for fault in self.faults if not any(part in fault for part in self.expected)]

    def _watch(self, page: "Page") -> None:
        def said(message: "ConsoleMessage") -> None:
            if message.type == "error":
                self.faults.append(f"{page.url}: {message.text} ({message.location.get('url')})")

        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", said)


def chromium() -> str:
    """The path of the machine's Chromium. Skips the test where there is none; fails it in CI."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if IN_CI:
        pytest.fail("there is no Chromium here: apt-get install chromium")
    pytest.skip("there is no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One browser for all tests of a module, without a window.

    Playwright's event loop runs in this thread meanwhile, so that asyncio.run() fails: in other modules it must not.
    """
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_of(browser: "Browser") -> Iterator[PageOf]:
    """Opens pages. Fails the test when one of them had a JavaScript error or broke its content policy: see PageOf."""
    with ExitStack() as contexts:
        pages = PageOf(browser, contexts)
        yield pages
    assert not pages.unexpected(), "\n".join(pages.unexpected())


def violations(page: "Page") -> list[str]:
    """What axe-core finds on the page: each rule with the elements that break it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {', '.join(node['html'][:200] for node in rule['nodes'][:5])}" for rule in found]


def overflow(page: "Page") -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
