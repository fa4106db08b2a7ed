"""The pages of the desk as people meet them: with any colours, on any screen, and with hostile names."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.test_review_desk import begin, log_in, on_item, sha_of
from tests.chromium import WIDTHS, PageOf, Scheme, overflow, violations
from tests.desk import Desk, drawn, in_folder, person, serving, swept
from worker.database import Database
from worker.messages import ImageRef
from worker.storage import LocalImageStore
from worker.tables import DeskRole
from worker.testing import ScriptedEngine

NASTY = "<img src=x onerror=alert(1)>'\"&\u202egnp.exe\u2066{{7*7}}" + "W" * 300
SAID = f"{NASTY} <script>alert(2)</script> This is a real photograph."


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Desk]:
    """A desk with ordinary and hostile names."""
    images = tmp_path / "images"
    (last,) = drawn(1, first=3).values()
    refs = in_folder(images, drawn(3) | {f"{NASTY[:60]}.png": last})
    refs = [ImageRef(uri=ref.uri, external_id=NASTY) for ref in refs]
    swept(database, LocalImageStore(max_bytes=2**20), refs, name=NASTY, engine=ScriptedEngine(explanation=SAID))
    person(database, "heron")
    person(database, "wren")
    person(database, "owl", DeskRole.ADMIN)
    with serving(database, tmp_path) as running:
        yield running


PAGES = ("/queue", "/queue?verdict=fake&external_id=nothing", "/me", "/nothing", "/queue?scan=wrong")
LEAD_PAGES = ("/agreement", "/overview")


@pytest.mark.timeout(600)
def test_no_page_breaks_a_rule_of_axe(desk: Desk, page_of: PageOf) -> None:
    """With any colours and on any screen, of one desk: starting one takes longer than looking at it."""
    page_of.expected += ["status of 404", "status of 422", "status of 409", "status of 403"]
    for width in WIDTHS:
        for scheme in get_args(Scheme):
            print(f"{width} pixels wide, {scheme}")
            check_pages(desk, partial(page_of, scheme=scheme, width=width))


def check_pages(desk: Desk, opened: Callable[[], Page]) -> None:
    page = opened()
    page.goto(f"{desk.address}/login")
    check(page)
    log_in(page, desk, "owl")
    for path in (*PAGES, *LEAD_PAGES):
        page.goto(desk.address + path)
        check(page)
    page.goto(f"{desk.address}/queue")
    page.keyboard.press("Enter")
    on_item(page)
    check(page)
    page.keyboard.press("?")
    check(page)
    held = sha_of(page)
    page.goto(f"{desk.address}/queue")
    other = begin(opened(), desk, "wren")
    other.goto(f"{desk.address}/items/{held}")
    check(other)
    other.goto(f"{desk.address}/agreement")
    check(other)


def check(page: Page) -> None:
    assert not violations(page), page.url
    assert overflow(page) <= 0, page.url


def test_a_hostile_name_is_text_and_nothing_else(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    expect(page.get_by_text("The explanation contradicts the verdict")).to_be_visible()
    assert page.locator("mark").count() >= 1
    assert NASTY in page.locator("main").inner_text()
    page.keyboard.press("n")
    page.keyboard.insert_text(NASTY)
    page.keyboard.press("Escape")
    decided = sha_of(page)
    page.keyboard.press("f")
    on_item(page, decided)
    page.goto(f"{desk.address}/items/{decided}")
    assert page.locator("main").inner_text().count(NASTY) >= 2
    assert page.locator("main script, main img[src=x]").count() == 0
    assert not desk.policy_broken()
