"""People decide in a real browser: with the keyboard only, two at once, and while the server goes away."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text
from sqlmodel import Session, col, select

from tests.chromium import PageOf
from tests.desk import Desk, drawn, in_folder, person, serving, swept
from worker.database import Database
from worker.storage import LocalImageStore
from worker.tables import Review

FEW, MANY, EDGE = 12, 100, 160
DECIDED = {"f": "fake", "r": "real", "c": "cannot_tell"}


@pytest.fixture
def desk(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Desk]:
    """A desk with a few images, or as many as the test's parameter says, and two reviewers."""
    refs = in_folder(tmp_path / "images", drawn(getattr(request, "param", FEW), edge=EDGE))
    swept(database, LocalImageStore(max_bytes=2**20), refs)
    for name in ("heron", "wren"):
        person(database, name)
    with serving(database, tmp_path) as running:
        yield running


def log_in(page: Page, desk: Desk, name: str = "heron") -> Page:
    """Logs in with the keyboard."""
    page.goto(f"{desk.address}/login")
    page.get_by_role("button", name=name).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{desk.address}/queue")
    page.wait_for_function("() => document.body.dataset.keys")
    return page


def begin(page: Page, desk: Desk, name: str = "heron") -> Page:
    """Logs in and takes the first item, with the keyboard."""
    log_in(page, desk, name)
    page.keyboard.press("Enter")
    return on_item(page)


def on_item(page: Page, other_than: str = "-") -> Page:
    """Waits until the page shows an item that its user has claimed and that is not `other_than`."""
    page.wait_for_function(
        "other => document.body.dataset.keys && document.querySelector('#item[data-claim]')"
        " && document.querySelector('#item').dataset.sha !== other",
        arg=other_than,
    )
    return page


def sha_of(page: Page) -> str:
    return str(page.locator("#item").get_attribute("data-sha"))


def reviews(database: Database) -> list[Review]:
    with Session(database) as session:
        return list(session.exec(select(Review).order_by(col(Review.id))))


def press(page: Page, key: str) -> None:
    """Presses a key that decides or skips, and waits for the next item."""
    before = sha_of(page)
    page.keyboard.press(key)
    on_item(page, before)


@pytest.mark.parametrize("desk", [MANY], indirect=True)
def test_a_hundred_images_are_decided_with_the_keyboard_only(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    expected = {}
    for number in range(MANY):
        key = "frc"[number % 3]
        expected[sha_of(page)] = DECIDED[key]
        if number < MANY - 1:
            press(page, key)
        else:
            page.keyboard.press(key)
    expect(page.get_by_text("Nothing else waits for you here.")).to_be_visible()
    assert {one.sha256: one.statement for one in reviews(database)} == expected
    assert len(reviews(database)) == MANY


def test_each_key_does_what_it_should(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    first = sha_of(page)
    page.keyboard.down("b")
    expect(page.locator(".clear")).to_be_visible()
    assert page.locator(".clear").evaluate("image => image.complete && image.naturalWidth") == EDGE
    page.keyboard.up("b")
    expect(page.locator(".clear")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("f")  # while the list of keys is open, no key decides
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(page.get_by_label("Grey")).to_be_checked()
    page.keyboard.press("z")
    expect(page.get_by_label("Full size")).to_be_checked()
    page.keyboard.press("2")
    page.keyboard.press("n")
    page.keyboard.type("frcsub?123")  # in a text field, these keys are only letters
    expect(page.get_by_label("Note")).to_have_value("frcsub?123")
    page.keyboard.press("Escape")
    for combined in ("Control+f", "Alt+r", "Shift+C", "Meta+s"):
        page.keyboard.press(combined)
    assert sha_of(page) == first
    assert not reviews(database)
    press(page, "s")
    assert not reviews(database)
    second = sha_of(page)
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.insert_text("typed before\nthe decision")
    page.keyboard.press("Escape")
    chosen = page.get_by_label("Reason").input_value()
    press(page, "f")
    page.keyboard.press("u")
    page.wait_for_function("sha => document.querySelector('#item').dataset.sha === sha", arg=second)
    expect(page.get_by_text("You took back")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("typed before\nthe decision")
    expect(page.get_by_label("Reason")).to_have_value(chosen)
    page.keyboard.press("0")  # this key does nothing
    press(page, "f")
    assert [(one.sha256, one.statement) for one in reviews(database)] == [(second, "fake"), (second, "fake")]


def test_undo_takes_back_one_decision_after_the_other(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    decided = []
    for key in "frc":
        decided.append(sha_of(page))
        press(page, key)
    for sha256 in reversed(decided):
        page.keyboard.press("u")
        page.wait_for_function("sha => document.querySelector('#item').dataset.sha === sha", arg=sha256)
    press(page, "r")
    last = reviews(database)[-1]
    assert (last.sha256, last.statement) == (decided[0], "real")


def test_a_reason_and_a_note_are_stored(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.type("six fingers <b>")
    page.keyboard.press("Escape")
    chosen = page.get_by_label("Reason").input_value()
    assert chosen
    press(page, "f")
    (stored,) = reviews(database)
    assert (stored.note, stored.reason_code) == ("six fingers <b>", chosen)


def test_keys_can_be_turned_off(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = begin(page_of(), desk)
    page.keyboard.press("?")
    page.get_by_label("Use these keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("f")
    page.reload()
    assert page.get_by_role("button", name="Fake").is_visible()
    assert not reviews(database)


def test_two_browsers_never_have_the_same_item(database: Database, desk: Desk, page_of: PageOf) -> None:
    one, other = begin(page_of(), desk, "heron"), begin(page_of(), desk, "wren")
    seen: Counter[str] = Counter()
    for _ in range(5):
        assert sha_of(one) != sha_of(other)
        seen.update((sha_of(one), sha_of(other)))
        press(one, "f")
        press(other, "r")
    assert set(seen.values()) == {1}
    other.goto(f"{desk.address}/items/{sha_of(one)}")
    expect(other.get_by_text("heron works on this item")).to_be_visible()
    expect(other.get_by_role("button", name="Fake")).to_have_count(0)


def test_others_who_have_the_item_open_are_shown_until_they_leave(
    database: Database, desk: Desk, page_of: PageOf
) -> None:
    one, other = begin(page_of(), desk, "heron"), begin(page_of(), desk, "wren")
    expect(one.locator("#others")).to_be_hidden()
    other.goto(f"{desk.address}/items/{sha_of(one)}")
    expect(other.locator("#others")).to_have_text("heron has this item open too.")
    one.reload()
    expect(one.locator("#others")).to_have_text("wren has this item open too.")
    other.goto(f"{desk.address}/queue")
    with database.begin() as connection:  # as if two and a half minutes had passed
        connection.execute(text("UPDATE looks SET until = now() WHERE reviewer = 'wren'"))
    one.reload()
    expect(one.locator("#others")).to_be_hidden()


def test_a_claim_that_runs_out_says_so_and_keeps_what_was_typed(
    database: Database, desk: Desk, page_of: PageOf
) -> None:
    page = begin(page_of(), desk)
    held = sha_of(page)
    page.keyboard.press("n")
    page.keyboard.type("not finished")
    page.keyboard.press("Escape")
    with database.begin() as connection:  # as if the browser had slept for ten minutes
        connection.execute(text("UPDATE claims SET until = now() - interval '1 second'"))
    other = begin(page_of(), desk, "wren")
    assert sha_of(other) == held
    page_of.expected.append("status of 409")
    page.keyboard.press("f")
    expect(page.get_by_role("alert")).to_contain_text("wren")
    expect(page.get_by_label("Note")).to_have_value("not finished")
    expect(page.get_by_role("button", name="Real")).to_be_disabled()
    assert not reviews(database)
    page.reload()
    expect(page.get_by_text("wren works on this item")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("not finished")
    press(other, "s")
    page.reload()
    page.get_by_role("button", name="Review this one").click()
    on_item(page)
    expect(page.get_by_label("Note")).to_have_value("not finished")


def test_an_open_page_keeps_its_claim(database: Database, tmp_path: Path, page_of: PageOf) -> None:
    swept(database, LocalImageStore(max_bytes=2**20), in_folder(tmp_path / "images", drawn(1)))
    for name in ("heron", "wren"):
        person(database, name)
    with serving(database, tmp_path, FAKESWEEP_WEB_CLAIM_S="10") as desk:
        page = begin(page_of(), desk)
        other = log_in(page_of(), desk, "wren")
        other.wait_for_timeout(12_000)
        other.keyboard.press("Enter")
        expect(other.get_by_text("Nothing else waits for you here.")).to_be_visible()
        page.keyboard.press("f")
        expect(page.get_by_text("Nothing else waits for you here.")).to_be_visible()
        assert len(reviews(database)) == 1
        page.close()
        other.close()


def test_no_decision_is_lost_when_the_server_goes_away(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = page_of()
    page_of.expected.append("net::ERR_")
    begin(page, desk)
    first = sha_of(page)
    page.keyboard.press("n")
    page.keyboard.type("typed before it went")
    page.keyboard.press("Escape")
    desk.kill()
    page.keyboard.press("f")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.keyboard.press("r")  # a second decision must not overtake the first
    desk.start()
    on_item(page, first)
    (stored,) = reviews(database)
    assert (stored.sha256, stored.statement, stored.note) == (first, "fake", "typed before it went")


def test_everything_but_the_keys_works_without_javascript(database: Database, desk: Desk, page_of: PageOf) -> None:
    page = page_of(java_script_enabled=False)
    page.goto(f"{desk.address}/login")
    page.get_by_role("button", name="heron").click()
    page.get_by_role("button", name="Review the next one").click()
    first = sha_of(page)
    page.get_by_label("Show it").check()
    expect(page.locator(".clear")).to_be_visible()
    page.get_by_label("Reason").select_option(index=1)
    note = "by hand\n" * 1000 + "z" * 1990  # browsers count an end of line as one character, and send two
    page.get_by_label("Note").fill(note)
    page.get_by_role("button", name="Fake").click()
    assert sha_of(page) != first
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("button", name="Undo").click()
    assert sha_of(page) == first
    assert page.get_by_label("Note").input_value() == note
    page.get_by_label("Reason").select_option(index=0)
    page.get_by_role("button", name="Cannot tell").click()
    assert [one.statement for one in reviews(database)] == ["fake", "cannot_tell"]
