"""The HTML report: what it counts, what it shows, and that nothing in it can act."""

import base64
import hashlib
import io
import re
import random
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producers.reporting.reports import write_report
from producers.reporting.reviewed import Reviewed
from producers.reporting.thumbnails import THUMBNAIL_BYTES
from worker.errors import ImageError, Reason, StorageUnavailableError

DETECTOR = {
    "name": "fakevlm", "model": "lingcco/fakeVLM", "revision": "9f2c", "prompt_revision": "p1",
    "preprocessing_revision": "c1", "dtype": "bfloat16", "quantization": None, "fingerprint": "f1" * 32,
    "calibration": None,
}  # fmt: skip


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "scan": "0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11", "name": "nightly", "source": "s3://archive/", "kind": "scan",
        "status": "done", "note": None, "skipped_by": None, "listed": 0, "skipped": 0,
        "record": "all", "judged": 0, "reused": 0, "unchanged": 0, "failed": 0, "fake": 0, "real": 0,
        "uncertain": 0, "policy": {"explain": "flagged", "fake_from": 0.6, "real_to": 0.4}, "notice": None,
        "created_at": "2026-11-05T01:00:00+01:00", "finished_at": "2026-11-05T02:00:00+00:00",
        "detectors": [DETECTOR],
    } | changes  # fmt: skip


def row(score: float | None = 0.9, **changes: Any) -> dict[str, Any]:
    uri = changes.get("uri", "s3://archive/a.jpg")
    verdict = "uncertain" if score is None or 0.4 < score < 0.6 else "fake" if score >= 0.6 else "real"
    return {
        "uri": uri, "external_id": None, "outcome": "judged", "verdict": verdict, "score": score,
        "answer": {"fake": "fake", "real": "real"}.get(verdict, "undecided"), "cut_off": False,
        "explanation": None, "contradicts": False, "reason": None, "detail": None, "etag": "e1", 
        "sha256": hashlib.sha256(uri.encode(errors="surrogatepass")).hexdigest(),
        "width": 640, "height": 480, "detector": DETECTOR, "reused_from": None, "attempts": 1,
        "decided_at": "2026-11-05T01:02:03+00:00",
    } | changes  # fmt: skip


def named(text: str) -> dict[str, Any]:
    """A detector of which all is this text."""
    calibration = {"fitted_on": text, "images": 1, "error_before": None, "error_after": None}
    return dict.fromkeys(DETECTOR, text) | {"calibration": calibration}


def failed(reason: str, **changes: Any) -> dict[str, Any]:
    return row(None, outcome="failed", verdict=None, reason=reason, **changes)


def picture(size: tuple[int, int] = (800, 400)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "JPEG", comment=b"shot at 12 Home Street")
    return file.getvalue()


def fetch_picture(uri: str, etag: str | None) -> bytes:
    return picture()


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), and the text inside each element by its index."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"br", "dd", "details", "div", "dt", "p", "span", "td"}:  # a reader sees a gap before these
            self.handle_data(" ")
        self.elements.append((tag, dict(attrs)))
        self._texts.append("")
        if tag not in {"meta", "img", "input", "br", "line", "rect"}:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self._texts[index] += data

    def texts(self, tag: str, kind: str = "") -> list[str]:
        """The texts, whitespace collapsed, of the elements with this tag and, if given, this class."""
        return [
            " ".join(text.split())
            for (name, attributes), text in zip(self.elements, self._texts, strict=True)
            if name == tag and (not kind or kind in (attributes.get("class") or "").split())
        ]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def section(self, name: str) -> str:
        """The text of the section with this id."""
        return next(
            " ".join(text.split())
            for (tag, attributes), text in zip(self.elements, self._texts, strict=True)
            if tag == "section" and attributes.get("id") == name
        )

    def bins(self) -> list[tuple[int, ...]]:
        """(fake, uncertain, real) of every bin, from the table under the histogram."""
        numbers = [text for text in self.texts("tr") if " – " in text]
        return [tuple(int(number.replace(",", "")) for number in text.split()[-3:]) for text in numbers]


@pytest.fixture
def report(tmp_path: Path) -> Any:
    def write(rows: Iterable[dict[str, Any]], *, fetch: Any = fetch_picture, gallery: int = 99,
              limits: Any = None, **of_scan: Any) -> Page:  # fmt: skip
        output = tmp_path / "report.html"
        write_report(summary(**of_scan), rows, fetch, output, gallery=gallery, **(limits or {}))
        return Page(output.read_text(encoding="utf-8"))

    return write


def test_totals_and_shares_come_from_the_summary(report: Any) -> None:
    page = report([], listed=200_001, skipped=7, skipped_by={"too_large": 5, "duplicate": 2},
                  judged=190_000, reused=10_000, failed=1, fake=50_000, uncertain=1,
                  real=149_999)  # fmt: skip

    assert page.texts("div", "figure") == [
        "Listed 200,001 distinct images; 7 passed over: 2 duplicate, 5 too large",
        "Judged 190,000 95.0 % of listed",
        "Reused 10,000 5.0 % of listed; same content judged before",
        "Failed 1 < 0.1 % of listed; without a verdict",
        "Fake 50,000 25.0 % of judged and reused",
        "Uncertain 1 < 0.1 % of judged and reused",
        "Real 149,999 75.0 % of judged and reused",
    ]


def test_nearly_all_is_not_shown_as_all(report: Any) -> None:
    page = report([], listed=5000, judged=5000, real=4999, fake=1)
    assert page.texts("div", "real") == ["Real 4,999 > 99.9 % of judged and reused"]


def test_says_what_it_is_of(report: Any) -> None:
    page = report([row()], skipped=1)
    assert page.texts("h1") == ["nightly"]
    assert "0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11" in page.texts("header")[0]
    assert "A signal, not proof: people decide." in page.texts("main")[0]
    method = page.section("method")
    assert "Source s3://archive/" in method
    assert "Started 2026-11-05 00:00:00 UTC Finished 2026-11-05 02:00:00 UTC" in method
    assert "fake from 0.6 up, real to 0.4 down" in method
    assert "fakevlm: model lingcco/fakeVLM, revision 9f2c, prompt p1, preprocessing c1, bfloat16, not" in method


def test_the_notice_stands_on_top(report: Any) -> None:
    assert report([]).texts("p", "warn") == []
    assert report([], notice="A <demo> detector.").texts("p", "warn") == ["Notice. A <demo> detector."]


def test_totals_that_differ_from_the_findings_are_said_to(report: Any) -> None:
    assert "they count 3 and 1 outcomes" in report([row()], judged=2, failed=1).texts("main")[0]
    assert "different moments" not in report([row()], judged=1).texts("main")[0]


@pytest.mark.parametrize("edge", range(20))
def test_a_bin_holds_its_lower_edge(report: Any, edge: int) -> None:
    below = max(edge / 20 - 1e-9, 0)
    page = report([row(edge / 20), row(below)], judged=2)
    expected = [0] * 20
    expected[edge] += 1
    expected[max(edge - 1, 0)] += 1
    assert [sum(counts) for counts in page.bins()] == expected


def test_scores_of_0_and_1_are_in_the_outer_bins(report: Any) -> None:
    page = report([row(0.0), row(1.0), row(1.0)])
    assert page.bins()[0] == (0, 0, 1)
    assert page.bins()[19] == (2, 0, 0)


def test_bars_keep_the_verdict_that_was_given(report: Any) -> None:
    page = report([row(0.6), row(0.62, verdict="uncertain"), row(0.4)])
    assert page.bins()[12] == (1, 1, 0)
    assert page.bins()[8] == (0, 0, 1)
    bars = [(bar["class"], bar["x"]) for bar in page.all("rect")]
    assert bars == [("real", "40.3%"), ("fake", "60.3%"), ("uncertain", "60.3%")]


def test_thresholds_are_drawn_where_they_are(report: Any) -> None:
    page = report([row()], policy={"explain": "all", "fake_from": 0.75, "real_to": 0.25})
    assert [line["x1"] for line in page.all("line") if line.get("class") == "limit"] == ["25.0%", "75.0%"]
    assert page.texts("text", "threshold") == ["real up to 0.25", "fake from 0.75"]


def test_one_image_among_many_still_has_a_bar(report: Any) -> None:
    page = report([row(0.95), *[row(0.02)] * 5000])
    heights = {bar["class"]: float(bar["height"] or 0) for bar in page.all("rect")}
    assert heights["fake"] == 2.0
    assert 100 < heights["real"] <= 180


def test_undecided_answers_are_counted_beside_the_histogram(report: Any) -> None:
    page = report([row(0.9), row(None), row(None)])
    assert "1 image by score" in page.texts("figcaption")[0]
    assert "2 images where the answer was undecided" in page.texts("figcaption")[0]


def test_the_gallery_holds_the_highest_scores_first(report: Any) -> None:
    scores = [0.61, 0.99, 0.7, 0.99, 0.8]
    rows = [row(score, uri=f"s3://archive/{9 - i}.jpg") for i, score in enumerate(scores)]
    page = report([row(0.1), *rows, row(0.5), failed("empty")], gallery=3)

    cards = page.texts("li", "card")[:3]
    assert [card.split(" Address ")[1].split(" SHA-256 ")[0] for card in cards] == [
        "s3://archive/6.jpg", "s3://archive/8.jpg", "s3://archive/5.jpg"
    ]  # fmt: skip
    assert page.texts("h3", "fake") == ["1. Fake score 0.990", "2. Fake score 0.990", "3. Fake score 0.800"]
    assert "3 of 5 shown" in page.section("flagged")
    assert "2 more flagged images are not in this file. fakesweep results 0b7f8c1e" in page.section("flagged")


def test_without_a_gallery_everything_is_still_counted(report: Any) -> None:
    page = report([row(0.9), row(0.1)], gallery=0)
    assert "0 of 1 shown" in page.section("flagged")
    assert sum(map(sum, page.bins())) == 2


def test_only_the_gallery_is_fetched(report: Any) -> None:
    asked = []

    def fetch(uri: str, etag: str | None) -> bytes:
        asked.append((uri, etag))
        return picture()

    report([row(0.7, uri="s3://b/low"), row(0.8, uri="s3://b/high", etag="e9"), row(0.1)], fetch=fetch, gallery=1)
    assert asked == [("s3://b/high", "e9")]


def test_thumbnails_are_small_embedded_and_carry_nothing_of_the_original(report: Any) -> None:
    (image,) = report([row()]).all("img")
    prefix, _, encoded = (image["src"] or "").partition(",")
    assert prefix == "data:image/jpeg;base64"
    jpeg = base64.b64decode(encoded)
    assert Image.open(io.BytesIO(jpeg)).size == (512, 256)
    assert (image["width"], image["height"]) == ("512", "256")
    assert b"Home Street" not in jpeg
    assert (image["loading"], image["decoding"], image["alt"]) == ("lazy", "async", "Picture of flagged image 1")


def test_a_small_image_is_not_blown_up(report: Any) -> None:
    (image,) = report([row()], fetch=lambda *_: picture((40, 30))).all("img")
    assert (image["width"], image["height"]) == ("40", "30")


def test_eight_thumbnails_are_fetched_at_once(report: Any) -> None:
    together = threading.Barrier(8, timeout=60)

    def fetch(uri: str, etag: str | None) -> bytes:
        together.wait()  # breaks, and fails the test, unless eight threads stand here
        return picture()

    page = report([row(uri=f"s3://archive/{i}") for i in range(16)], fetch=fetch)
    assert len(page.all("img")) == 16


def test_a_thumbnail_that_cannot_be_made_is_a_placeholder_with_the_reason(report: Any) -> None:
    def fetch(uri: str, etag: str | None) -> bytes:
        if "gone" in uri:
            raise ImageError(Reason.NOT_FOUND, "no <such> key")
        if "away" in uri:
            raise StorageUnavailableError("S3 answers 503")
        return b"<html>no image</html>" if "page" in uri else picture()

    names = ("away", "fine", "gone", "page")
    page = report([row(uri=f"s3://archive/{name}") for name in names], fetch=fetch)
    away, fine, gone, no_image = page.texts("div", "thumb")
    assert away == "No picture S3 answers 503"
    assert fine == ""
    assert gone == "No picture not_found: no <such> key"
    assert no_image.startswith("No picture not_an_image: ")
    assert len(page.all("img")) == 1


def test_a_card_tells_what_is_known(report: Any) -> None:
    page = report([row(0.9731, explanation="The hands merge.", external_id="asset 7")])
    (card,) = page.texts("li", "card")
    sha256 = hashlib.sha256(b"s3://archive/a.jpg").hexdigest()
    assert card == ("1. Fake score 0.973 Show picture 1 The hands merge. Address s3://archive/a.jpg External id asset 7 "
                    f"SHA-256 {sha256} Size 640 × 480 pixels Decided 2026-11-05 01:02:03 UTC")  # fmt: skip


def test_contradictions_and_reused_verdicts_are_marked(report: Any) -> None:
    page = report([
        row(0.9, contradicts=True),
        row(0.8, uri="s3://archive/b.jpg", reused_from="s3://old/b.jpg", outcome="reused"),
        row(0.7, uri="s3://archive/c.jpg"),
    ])  # fmt: skip
    first, second, third = page.texts("li", "card")
    assert "Contradiction." in first
    assert "Reused verdict. The same content was judged at s3://old/b.jpg" in second
    assert "Contradiction." not in second + third
    assert "Reused verdict." not in first + third
    assert len(page.texts("li", "contradicts")) == 1
    assert "contradicts the verdict of 1 image." in page.section("flagged")
    assert "Only contradictions" in page.texts("label")


def test_a_verdict_that_is_not_the_detectors_own_word_says_so(report: Any) -> None:
    page = report([row(0.9, contradicts=True, answer="real"), row(0.8, contradicts=True, uri="s3://archive/b.jpg")])
    own, text = page.texts("li", "card")
    assert "Contradiction. The detector's own word was “real”; the thresholds or the calibration made it fake." in own
    assert "Contradiction. The explanation argues against the verdict." in text


def test_a_scan_without_a_judged_image_has_the_detectors_thresholds(report: Any) -> None:
    page = report([failed("corrupt")], policy={"explain": "flagged", "fake_from": None, "real_to": None})
    assert "Thresholds the detector's own; no image has been judged yet" in " ".join(page.texts("section"))


def test_with_several_detectors_each_card_names_its_own(report: Any) -> None:
    other = DETECTOR | {"revision": "77aa"}
    page = report([row(detector=other)], detectors=[DETECTOR, other])
    assert "Detector fakevlm 77aa" in page.texts("li", "card")[0]
    assert "not comparable" in page.texts("main")[0]
    assert "Detector" not in report([row()]).texts("li", "card")[0]


def test_failures_are_counted_by_reason_most_frequent_first(report: Any) -> None:
    page = report([failed("empty"), *[failed("corrupt", uri=f"s3://b/{i}", detail=f"byte {i}") for i in range(1200)]])
    rows = [text for text in page.texts("tr") if "Example" in text]
    assert [(text.split()[0], text.split()[-1]) for text in rows] == [("corrupt", "1,200"), ("empty", "1")]
    assert "Example s3://b/0 byte 0" in rows[0]


@pytest.mark.parametrize("reason", [*Reason, "added_later"])
def test_every_reason_is_explained(report: Any, reason: str) -> None:
    page = report([failed(reason)])
    assert ("no description" in page.texts("tr")[-1]) == (reason == "added_later")


def test_an_empty_scan_says_so(report: Any) -> None:
    page = report([], detectors=[])
    text = page.texts("main")[0]
    assert "No image of this scan has a score." in text
    assert "No image failed." in text
    assert "No image of this scan was flagged as fake." in text
    assert "Detector none has judged an image of this scan" in text
    assert not page.all("svg") + page.all("table") + page.all("ol") + page.all("input")
    assert page.texts("p", "warn") == []


@pytest.mark.parametrize(("status", "expected"), [("running", "1,234 of 9,000 images have"),
                                                  ("listing", "1,234 of 9,000 images listed so far have")])  # fmt: skip
def test_an_unfinished_scan_has_a_banner(report: Any, status: str, expected: str) -> None:
    page = report([], status=status, finished_at=None, listed=9000, judged=1000, reused=200, failed=34)
    assert page.texts("p", "warn") == [
        f"This scan is still running. {expected} an outcome; every figure below can still change."
    ]
    assert "Finished not yet" in page.texts("dl", "pairs")[0]


def test_a_paused_scan_says_why(report: Any) -> None:
    note = "504 of 1008 images are flagged; the limit is a share of 0.4"
    page = report([], status="paused", note=note, listed=9000, judged=1008)
    (banner,) = page.texts("p", "warn")
    assert banner.startswith(f"This scan is paused: {note}. 1,008 of 9,000 images have an outcome")


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}&lt;"


def test_nothing_hostile_becomes_markup(report: Any) -> None:
    rows = [
        row(uri=f"s3://b/{HOSTILE}", external_id=HOSTILE, explanation=HOSTILE, reused_from=HOSTILE, contradicts=True),
        failed(HOSTILE, uri=HOSTILE, detail=HOSTILE),
    ]
    page = report(rows, name=HOSTILE, source=HOSTILE, notice=HOSTILE, detectors=[named(HOSTILE)])

    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.texts("h1") == [HOSTILE]
    assert page.texts("title")[0] == f"{HOSTILE} – Fakesweep report"
    assert page.texts("p", "explanation") == [HOSTILE]
    assert page.texts("dd", "uri")[:2] == [f"s3://b/{HOSTILE}", HOSTILE]


def test_characters_that_hide_or_reorder_text_are_spelled_out(report: Any) -> None:
    tricky = "a\u202egnp.exe\u2066b\u200bc\x00d\x1be\r\nf\ufeffg\ud800h"
    shown = ("a⟨U+202E⟩gnp.exe⟨U+2066⟩b⟨U+200B⟩c⟨U+0000⟩d⟨U+001B⟩e⟨U+000D⟩⟨U+000A⟩f⟨U+FEFF⟩g⟨U+D800⟩h")  # fmt: skip
    rows = [
        row(uri=tricky, external_id=tricky, explanation=tricky, reused_from=tricky),
        failed(tricky, uri=tricky, detail=tricky),
    ]
    page = report(rows, name=tricky, source=tricky, notice=tricky, detectors=[named(tricky)])

    assert not set(page.html) & set(tricky) - set("abcdefgh.nxp\n")
    assert [text for text in page.texts("dd", "uri") if len(text) != 64] == [shown] * 3
    assert page.texts("p", "explanation") == [shown.replace("⟨U+000A⟩", " ")], "an explanation may have lines"


def test_letters_of_every_script_stay(report: Any) -> None:
    name = "ملف-صورة-\u200c١.jpg 👩\u200d🚀 é"
    assert report([row(uri=name)]).texts("dd", "uri")[0] == name


def test_the_file_needs_nothing_else_and_can_run_nothing(report: Any) -> None:
    page = report([row(contradicts=True), failed("corrupt")], notice="n", status="running")
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert page.html.replace("s3://", "").count("://") == 0
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "iframe", "object", "base", "form"}]
    links = [value or "" for _, attributes in page.elements for name, value in attributes.items()
             if name in {"src", "href", "xlink:href", "srcset"}]  # fmt: skip
    assert links
    assert all(link.startswith(("#", "data:image/jpeg")) for link in links)
    assert "@import" not in page.html
    assert "url(" not in page.html


def test_images_are_blurred_until_somebody_wants_to_see_them(report: Any) -> None:
    page = report([row()])
    assert page.texts("label") == ["Show all pictures", "Greyscale", "Show picture 1"]
    assert not [box for box in page.all("input") if "checked" in box]
    assert re.search(r"\.thumb img {[^}]*filter: blur\(2\.5rem\)", page.html)


@pytest.mark.parametrize("rule", ["content-visibility: auto", "prefers-color-scheme: dark", "@media print"])
def test_the_style_has(report: Any, rule: str) -> None:
    assert rule in report([]).html


def test_headings_and_references_are_in_order(report: Any) -> None:
    page = report([row(), failed("corrupt")])
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = [str(a[name]) for _, a in page.elements for name in ("aria-labelledby", "for") if name in a]
    asked += [str(a["href"]).removeprefix("#") for a in page.all("a")]
    assert {name for value in asked for name in value.split()} <= set(ids)


def test_identical_images_stand_together_with_all_their_places(report: Any) -> None:
    same = [row(0.9, uri=f"s3://archive/{i}.jpg", sha256="5" * 64, external_id=f"post {i}") for i in range(70)]
    page = report([*same, row(0.8, uri="s3://archive/z.jpg")])
    first, second = page.texts("li", "card")
    assert "70 places s3://archive/0.jpg external id post 0 s3://archive/1.jpg" in first
    assert "s3://archive/49.jpg external id post 49 and 20 more: fakesweep results" in first
    assert "Address s3://archive/z.jpg" in second
    assert "71 of 71 shown, highest score first. Identical images stand together: 2 different ones." in (
        page.section("flagged")
    )


def test_a_content_that_two_detectors_judged_is_one_card(report: Any) -> None:
    other = DETECTOR | {"revision": "77aa"}
    rows = [row(0.9, sha256="5" * 64), row(0.7, uri="s3://b/2", sha256="5" * 64, detector=other)]
    (card,) = report(rows, detectors=[DETECTOR, other]).texts("li", "card")
    assert "Also judged fake, score 0.700 in this scan, by fakevlm 77aa." in card
    assert "2 places s3://archive/a.jpg s3://b/2" in card


def test_another_place_serves_where_the_first_one_is_gone(report: Any) -> None:
    def fetch(uri: str, etag: str | None) -> bytes:
        if uri.endswith("a.jpg"):
            raise ImageError(Reason.NOT_FOUND, "no such key")
        return picture()

    page = report([row(sha256="5" * 64), row(uri="s3://b/2", sha256="5" * 64)], fetch=fetch)
    assert len(page.all("img")) == 1


def test_uncertain_images_come_after_the_flagged_ones(report: Any) -> None:
    page = report([row(None, uri="s3://b/1"), row(0.5, uri="s3://b/2"), row(0.9, uri="s3://b/3")])
    assert page.texts("h3") == ["1. Fake score 0.900", "1. Uncertain score 0.500", "2. Uncertain no score"]
    assert "2 of 2 shown" in page.section("uncertain")


def test_pictures_take_no_more_than_their_room(report: Any) -> None:
    rows = [row(0.99 - i / 100, uri=f"s3://b/{i}") for i in range(5)]
    whole = report(rows)
    size = len(whole.all("img")[0]["src"] or "")
    page = report(rows, limits={"pictures_bytes": 3 * size + 10})
    assert len(page.all("img")) == 3
    assert [text.startswith("No picture The pictures") for text in page.texts("div", "thumb")] == [False] * 3 + [True] * 2
    assert "2 images in this report have no picture for that reason." in page.section("method")
    assert "no picture for that reason" not in whole.section("method")


def test_a_busy_picture_is_made_to_fit(report: Any) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (900, 900), random.Random(1).randbytes(900 * 900 * 3)).save(noise, "PNG")
    (image,) = report([row()], fetch=lambda *_: noise.getvalue()).all("img")
    assert len(base64.b64decode((image["src"] or "").partition(",")[2])) <= THUMBNAIL_BYTES


def test_what_people_decided_is_shown(report: Any) -> None:
    counts = {"contents": 9, "fake": 2, "real": 1, "cannot_tell": 0, "disputed": 1, "open": 5}
    standing = {"statement": "real", "disputed": False, "says_fake": 1, "says_real": 2, "says_cannot_tell": 0,
                "appeals": 1, "reviewed_at": "2026-11-06T01:00:00+01:00"}  # fmt: skip
    asked: list[str] = []

    def reviews(sha256s: Iterable[str]) -> Reviewed:
        asked.extend(sha256s)
        return Reviewed({"fake": counts}, dict.fromkeys(asked, standing))

    page = report([row()], limits={"reviews": reviews})
    assert asked == [hashlib.sha256(b"s3://archive/a.jpg").hexdigest()]
    assert [text.split()[-1] for text in page.texts("tr")[1:7]] == ["2", "1", "0", "1", "5", "9"]
    assert page.texts("p", "mark") == [
        "People: real. 1 said fake, 2 real, 0 cannot tell; 1 appeal; last on 2026-11-06 00:00:00 UTC."
    ]


def test_what_a_score_means_depends_on_its_calibration(report: Any) -> None:
    assert "Not calibrated." in report([row()]).section("scores")
    fitted = {"fitted_on": "our archive", "images": 1200, "error_before": 0.09, "error_after": 0.014}
    text = report([row()], detectors=[DETECTOR | {"calibration": fitted}]).section("scores")
    assert "Calibrated. A score is the probability" in text
    assert "fitted on 1,200 images (our archive); on other images it was off by 0.014 on average" in text


def test_only_our_style_sheet_takes_effect_and_it_names_the_scan(report: Any) -> None:
    page = report([row()])
    style = re.search(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert f"style-src 'sha256-{digest}'" in policy
    assert "scan 0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11" in style[1]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_ids_are_selected_by_one_click_and_the_release_is_named(report: Any) -> None:
    page = report([row(external_id="post 7"), failed("corrupt", uri="s3://b/broken")])
    ids = page.texts("dd", "id") + page.texts("code", "id")
    sha256 = hashlib.sha256(b"s3://archive/a.jpg").hexdigest()
    assert {"s3://archive/a.jpg", "post 7", sha256, "f1" * 32, "s3://b/broken", summary()["scan"]} <= set(ids)
    assert f"Fakesweep {version('fakesweep')} wrote this report" in page.section("method")


class _StopError(Exception):
    pass


@pytest.mark.parametrize("where", ["rows", "fetch"])
def test_a_report_that_breaks_off_leaves_the_old_one(tmp_path: Path, where: str) -> None:
    output = tmp_path / "report.html"
    output.write_text("the old one")

    def rows() -> Iterator[dict[str, Any]]:
        yield row()
        if where == "rows":
            raise _StopError

    def fetch(uri: str, etag: str | None) -> bytes:
        raise _StopError

    with pytest.raises(_StopError):
        write_report(summary(), rows(), fetch, output)
    assert output.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [output]


def test_the_output_changes_only_when_the_report_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("the old one")
    seen = []

    def fetch(uri: str, etag: str | None) -> bytes:
        seen.append(output.read_text())
        return picture()

    with output.open() as opened_before:
        write_report(summary(), [row(uri=f"s3://archive/{i}") for i in range(3)], fetch, output)
        assert opened_before.read() == "the old one", "replaced, not overwritten under a reader"
    assert seen == ["the old one"] * 3
    assert output.read_text().rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [output]


def test_an_output_that_cannot_be_written_fails_before_rows_are_read(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        pytest.fail("a row was read")
        yield row()

    with pytest.raises(FileNotFoundError):
        write_report(summary(), rows(), fetch_picture, tmp_path / "missing" / "report.html")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(200_000):
            yield row((i % 1000) / 999, uri=f"s3://archive/{i}.jpg", explanation=f"{i} " * 20)

    write_report(summary(), [row()], fetch_picture, tmp_path / "warm.html")  # imports and templates are not the rows'
    tracemalloc.start()
    try:
        write_report(summary(), rows(), fetch_picture, tmp_path / "report.html", gallery=20, uncertain=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    page = Page((tmp_path / "report.html").read_text())
    assert sum(map(sum, page.bins())) == 200_000
    assert len(page.texts("li", "card")) == 40
