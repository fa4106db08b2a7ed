"""The cards of the HTML report: which contents it shows, their pictures, and the text of each card."""

import base64
import hashlib
import io
import random
import re
import threading
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from PIL import Image

from producers.reporting.reviewed import Reviewed
from producers.reporting.thumbnails import THUMBNAIL_BYTES
from tests.reports import DETECTOR, failed, picture, row, summary
from worker.errors import ImageError, Reason, StorageUnavailableError


def test_the_gallery_has_the_highest_scores_first(report: Any) -> None:
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


def test_without_a_gallery_all_images_are_counted(report: Any) -> None:
    page = report([row(0.9), row(0.1)], gallery=0)
    assert "0 of 1 shown" in page.section("flagged")
    assert sum(map(sum, page.bins())) == 2


def test_only_pictures_of_the_gallery_are_fetched(report: Any) -> None:
    asked = []

    def fetch(uri: str, etag: str | None) -> bytes:
        asked.append((uri, etag))
        return picture()

    report([row(0.7, uri="s3://b/low"), row(0.8, uri="s3://b/high", etag="e9"), row(0.1)], fetch=fetch, gallery=1)
    assert asked == [("s3://b/high", "e9")]


def test_thumbnails_are_small_and_embedded_and_have_no_metadata(report: Any) -> None:
    (image,) = report([row()]).all("img")
    prefix, _, encoded = (image["src"] or "").partition(",")
    assert prefix == "data:image/jpeg;base64"
    jpeg = base64.b64decode(encoded)
    assert Image.open(io.BytesIO(jpeg)).size == (512, 256)
    assert (image["width"], image["height"]) == ("512", "256")
    assert b"Home Street" not in jpeg
    assert (image["loading"], image["decoding"], image["alt"]) == ("lazy", "async", "Picture of flagged image 1")


def test_a_small_image_is_not_enlarged(report: Any) -> None:
    (image,) = report([row()], fetch=lambda *_: picture((40, 30))).all("img")
    assert (image["width"], image["height"]) == ("40", "30")


def test_eight_thumbnails_are_fetched_at_once(report: Any) -> None:
    together = threading.Barrier(8, timeout=60)

    def fetch(uri: str, etag: str | None) -> bytes:
        together.wait()  # fails the test unless eight threads wait here
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


def test_a_card_shows_what_is_known(report: Any) -> None:
    page = report([row(0.9731, explanation="The hands merge.", external_id="asset 7")])
    (card,) = page.texts("li", "card")
    sha256 = hashlib.sha256(b"s3://archive/a.jpg").hexdigest()
    assert card == ("1. Fake score 0.973 Show picture 1 The hands merge. Address s3://archive/a.jpg "
                    f"External id asset 7 SHA-256 {sha256} Size 640 × 480 pixels "
                    "Decided 2026-11-05 01:02:03 UTC")  # fmt: skip


def test_a_detector_without_words_is_not_said_to_explain(report: Any) -> None:
    wordless = DETECTOR | {"prompt_revision": None, "gives_reasons": False}
    page = report([row(detector=wordless)], detectors=[wordless])
    assert "This detector gives a score and no reasons." in page.texts("li", "card")[0]
    assert "No explanation is stored" not in page.html
    assert "no prompt: it gives a score and no reasons" in page.section("method")
    assert "explanations are written by the same model" not in page.html
    assert "prompt None" not in page.section("method")
    both = report([row(detector=wordless), row(uri="s3://archive/b.jpg")], detectors=[wordless, DETECTOR])
    assert "explanations are written by the same model" in " ".join(both.html.split())
    assert "No explanation is stored" in both.html


def test_contradictions_and_reused_verdicts_are_shown(report: Any) -> None:
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


def test_a_verdict_that_differs_from_the_detectors_answer_says_so(report: Any) -> None:
    page = report([row(0.9, contradicts=True, answer="real"), row(0.8, contradicts=True, uri="s3://archive/b.jpg")])
    own, text = page.texts("li", "card")
    assert "Contradiction. The detector's own word was “real”; the thresholds or the calibration made it fake." in own
    assert "Contradiction. The explanation argues against the verdict." in text


def test_a_scan_without_a_judged_image_has_the_detectors_thresholds(report: Any) -> None:
    page = report([failed("corrupt")], policy={"explain": "flagged", "fake_from": None, "real_to": None})
    assert "Thresholds the detector's own; no image has been judged yet" in " ".join(page.texts("section"))


def test_with_several_detectors_each_card_names_its_detector(report: Any) -> None:
    other = DETECTOR | {"revision": "77aa"}
    page = report([row(detector=other)], detectors=[DETECTOR, other])
    assert "Detector fakevlm 77aa" in page.texts("li", "card")[0]
    assert "not comparable" in page.texts("main")[0]
    assert "Detector" not in report([row()]).texts("li", "card")[0]


def test_identical_images_have_one_card_with_all_their_places(report: Any) -> None:
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


def test_a_picture_is_fetched_from_another_place_if_the_first_one_is_gone(report: Any) -> None:
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


def test_pictures_take_no_more_than_their_limit(report: Any) -> None:
    rows = [row(0.99 - i / 100, uri=f"s3://b/{i}") for i in range(5)]
    whole = report(rows)
    size = len(whole.all("img")[0]["src"] or "")
    page = report(rows, limits={"pictures_bytes": 3 * size + 10})
    assert len(page.all("img")) == 3
    assert [text.startswith("No picture The pictures") for text in page.texts("div", "thumb")] == [False] * 3 + [
        True
    ] * 2
    assert "2 images in this report have no picture for that reason." in page.section("method")
    assert "no picture for that reason" not in whole.section("method")


def test_a_busy_picture_is_made_to_fit(report: Any) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (900, 900), random.Random(1).randbytes(900 * 900 * 3)).save(noise, "PNG")
    (image,) = report([row()], fetch=lambda *_: noise.getvalue()).all("img")
    assert len(base64.b64decode((image["src"] or "").partition(",")[2])) <= THUMBNAIL_BYTES


def test_reviews_are_shown(report: Any) -> None:
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


def test_a_scan_that_nobody_has_reviewed_says_so_in_one_line(report: Any) -> None:
    counts = dict.fromkeys(("fake", "real", "cannot_tell", "disputed"), 0) | {"contents": 1234, "open": 1234}
    page = report([row()], limits={"reviews": lambda _: Reviewed({"fake": counts})})
    assert "Nobody has decided about the flagged and uncertain images yet: 1,234 without" in page.section("totals")
    assert "Nobody has decided" not in report([row()]).section("totals")


def test_the_meaning_of_a_score_depends_on_the_calibration(report: Any) -> None:
    assert "Not calibrated." in report([row()]).section("scores")
    fitted = {"fitted_on": "our archive", "images": 1200, "error_before": 0.09, "error_after": 0.014}
    text = report([row()], detectors=[DETECTOR | {"calibration": fitted}]).section("scores")
    assert "Calibrated. A score is the probability" in text
    assert "fitted on 1,200 images (our archive); on other images it was off by 0.014 on average" in text


def test_only_our_own_style_sheet_is_used(report: Any) -> None:
    page = report([row()])
    style = re.search(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert f"style-src 'sha256-{digest}'" in policy
    assert "scan 0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11" in style[1]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_ids_are_selected_with_one_click_and_the_release_is_shown(report: Any) -> None:
    page = report([row(external_id="post 7"), failed("corrupt", uri="s3://b/broken")])
    ids = page.texts("dd", "id") + page.texts("code", "id")
    sha256 = hashlib.sha256(b"s3://archive/a.jpg").hexdigest()
    assert {"s3://archive/a.jpg", "post 7", sha256, "f1" * 32, "s3://b/broken", summary()["scan"]} <= set(ids)
    assert f"Fakesweep {version('fakesweep')} wrote this report" in page.section("method")
