"""A real browser for tests: the machine's Chromium, one for all tests of a process, driven by Playwright.

A test module that wants it says `pytest_plugins` nothing: tests/conftest.py offers the fixtures `browser` and `page_of`.
Where there is no Chromium these tests are skipped by name, and never in CI.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal, Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

Scheme = Literal["light", "dark"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
IN_CI = bool(os.environ.get("CI"))
WIDTHS = (390, 1600)


class PageOf(Protocol):
    """Opens a page in a context of its own: no cookie, storage or tab of another page."""

    def __call__(self, url: str | None = None, *, scheme: Scheme = "light", width: int = 1280, height: int = 900,
                 **context: Any) -> Page: ...  # fmt: skip


def chromium() -> str:
    """The path of the machine's Chromium. Skips the test where there is none; fails it in CI."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if IN_CI:
        pytest.fail("there is no Chromium here: apt-get install chromium")
    pytest.skip("there is no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this process, without a window."""
    path = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_of(browser: Browser) -> Iterator[PageOf]:
    """Opens pages, and fails the test when one of them had a JavaScript error or broke its own content policy.

    What a test expects of these, it takes out of `page.faults`, the list that they are collected in.
    """
    faults: list[str] = []
    with ExitStack() as contexts:

        def opened(url: str | None = None, *, scheme: Scheme = "light", width: int = 1280, height: int = 900,
                   **context: Any) -> Page:  # fmt: skip
            size = {"width": width, "height": height}
            made = contexts.enter_context(browser.new_context(color_scheme=scheme, viewport=size, **context))
            made.on("page", lambda page: _watch(page, faults))
            page = made.new_page()
            if url is not None:
                page.goto(url)
            return page

        yield opened
    assert not faults, "\n".join(faults)


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page: each rule with the elements that break it."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {', '.join(node['html'][:200] for node in rule['nodes'][:5])}" for rule in found]


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def _watch(page: Page, faults: list[str]) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(f"{page.url}: {message.text}")  # Chromium reports CSP violations so

    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("console", said)
