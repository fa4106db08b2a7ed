"""The HTML report in a real browser: who can use it, what it hides, what it prints, and that nothing in it runs."""

import subprocess
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from deploy.demo.answers import FAMILIES
from deploy.demo.draw import draw, encode
from producers.reporting.reports import write_report
from producers.reporting.reviewed import Reviewed
from tests.chromium import IN_CI, WIDTHS, PageOf, Scheme, overflow, violations
from tests.reports import HOSTILE, failed, named, row, summary

TRICKY = "\u202egnp.exe\u2066\u200b"
TEXTS = (HOSTILE * 5, TRICKY * 20, "W" * 1000, "ملف صورة " * 60, "a/" * 500, "漢字" * 300)


@cache
def drawing(number: int) -> bytes:
    return encode(draw(number, FAMILIES[number % len(FAMILIES)]), number)[0]


def fetch(uri: str, etag: str | None) -> bytes:
    return b"<html>" if "page" in uri else drawing(len(uri) % 7)


def standing(sha256s: Iterable[str]) -> Reviewed:
    counts = dict.fromkeys(("contents", "fake", "real", "cannot_tell", "disputed", "open"), 10**9)
    review = {"statement": None, "disputed": True, "says_fake": 1, "says_real": 1, "says_cannot_tell": 0, "appeals": 0,
              "reviewed_at": "2026-11-06T01:00:00+01:00"}  # fmt: skip
    return Reviewed({"fake": counts, "uncertain": counts}, dict.fromkeys(sha256s, review))


def usual() -> list[dict[str, Any]]:
    same = [row(0.95, uri=f"s3://archive/same-{i}.jpg", sha256="5" * 64, external_id=f"post-{i}") for i in range(60)]
    others = [row(0.6 + i / 100, uri=f"s3://archive/{i}.jpg", explanation="The hands merge. " * 8) for i in range(24)]
    marked = row(0.99, uri="s3://archive/marked", contradicts=True, reused_from="s3://old/a", outcome="reused")
    return [*same, *others, marked, row(None, uri="s3://archive/page"), failed("corrupt", detail="Truncated")]


def nasty() -> list[dict[str, Any]]:
    rows = [row(0.9, uri=f"s3://b/{text}", external_id=text, explanation=text * 3, reused_from=text, contradicts=True,
                cut_off=True) for text in TEXTS]  # fmt: skip
    return [*rows, *(row(None, uri=f"s3://u/{text}") for text in TEXTS), *(failed(t, uri=t, detail=t) for t in TEXTS)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reports")
    text = HOSTILE + TRICKY + "W" * 1000
    of_nasty = {"name": text, "source": text, "notice": text, "note": text, "status": "paused", "listed": 10**12,
                "skipped": 3, "skipped_by": {"too_large": 3}, "record": "changes",
                "detectors": [named(text), named(text)]}  # fmt: skip
    for name, rows, scan in (("usual", usual(), {}), ("nasty", nasty(), of_nasty), ("empty", [], {})):
        write_report(summary(**scan), rows, fetch, folder / f"{name}.html", reviews=standing)
    return {path.stem: path.as_uri() for path in folder.iterdir()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["usual", "nasty", "empty"])
def test_everybody_can_read_the_report(
    reports: dict[str, str], page_of: PageOf, name: str, scheme: Scheme, width: int
) -> None:
    page = page_of(reports[name], scheme=scheme, width=width)
    assert violations(page) == []
    assert overflow(page) == 0
    wide = "[...document.querySelectorAll('.card, section, .figure')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert page.evaluate(f"{wide}.map(e => e.outerHTML.slice(0, 200))") == []


def test_pictures_are_blurred_until_somebody_shows_them(reports: dict[str, str], page_of: PageOf) -> None:
    page = page_of(reports["usual"])
    first, second = (page.locator(".thumb img").nth(number) for number in (0, 1))
    assert "blur(40px)" in filter_of(first)
    first.scroll_into_view_if_needed()
    box = page.locator(".thumb").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 99, box["y"] + 99)
    assert "blur" in filter_of(first), "the mouse over it shows nothing"
    page.mouse.down()
    assert (filter_of(first), "blur" in filter_of(second)) == ("none", True)
    page.mouse.up()
    assert "blur" in filter_of(first)
    page.get_by_label("Show picture 1", exact=True).first.focus()
    page.keyboard.press("Space")
    assert (filter_of(first), "blur" in filter_of(second)) == ("none", True)
    page.get_by_label("Greyscale").check()
    assert filter_of(first) == "grayscale(1)"
    page.get_by_label("Show all pictures").check()
    assert filter_of(second) == "grayscale(1)"


def test_only_contradictions_can_be_shown(reports: dict[str, str], page_of: PageOf) -> None:
    page = page_of(reports["usual"])
    page.get_by_label("Only contradictions").check()
    assert page.locator(".card:visible").count() == 1


def test_one_click_selects_an_id(reports: dict[str, str], page_of: PageOf) -> None:
    page = page_of(reports["usual"])
    wanted = [summary()["scan"], "s3://archive/same-7.jpg", "post-7", "5" * 64, "f1" * 32]
    for text in wanted:
        page.locator(".id", has_text=text).first.click(position={"x": 9, "y": 5})
        assert page.evaluate("getSelection().toString()") == text


def test_the_report_works_without_javascript_and_sends_no_request(reports: dict[str, str], page_of: PageOf) -> None:
    page = page_of(java_script_enabled=False)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(reports["nasty"])
    page.get_by_label("Show all pictures").check()
    assert not [url for url in asked if not url.startswith("data:") and unquote(url) != unquote(reports["nasty"])]


@pytest.mark.parametrize("shown", [False, True])
def test_printed_pages_are_full(reports: dict[str, str], page_of: PageOf, tmp_path: Path, shown: bool) -> None:
    page = page_of(reports["usual"])
    if shown:
        page.get_by_label("Show all pictures").check()
    else:
        page.emulate_media(media="print")
        assert page.locator(".thumb img:visible").count() == 0, "blurred pictures are not printed"
        edge = "Math.max(...[...document.querySelectorAll('.card')].map(e => e.getBoundingClientRect().right))"
        assert page.evaluate(f"document.documentElement.clientWidth - {edge}") > 1, "no card is wider than the paper"
    pages = paper(page.pdf(format="A4"), tmp_path)
    assert len(pages) <= (11 if shown else 8)
    assert min(pages[:-1]) > 0.5, "only the last page may be half empty"


def filter_of(image: Any) -> str:
    return str(image.evaluate("image => getComputedStyle(image).filter"))


def paper(pdf: bytes, folder: Path) -> list[float]:
    """How far down each page is printed, as a share of the space between the head and the page number."""
    if not IN_CI and not which("pdftoppm"):
        pytest.skip("there is no pdftoppm here (apt-get install poppler-utils)")
    (folder / "report.pdf").write_bytes(pdf)
    subprocess.run(["pdftoppm", "-r", "36", "-png", "report.pdf", "page"], cwd=folder, check=True, timeout=60)
    return [_used(Image.open(BytesIO(path.read_bytes())).convert("L")) for path in sorted(folder.glob("page*.png"))]


def _used(page: Image.Image) -> float:
    top, bottom = page.height * 16 // 297, page.height * 283 // 297
    body = page.crop((0, top, page.width, bottom)).point(lambda level: 255 if level < 200 else 0)
    box = body.getbbox()
    return box[3] / body.height if box else 0.0
