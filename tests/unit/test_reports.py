"""The HTML report: its figures, its contents, and that it can run nothing."""

import re
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from producers.reporting.reports import write_report
from tests.reports import HOSTILE, Page, failed, fetch_picture, named, picture, row, summary
from worker.errors import Reason


def test_totals_and_shares_come_from_the_summary(report: Any) -> None:
    page = report([], listed=200_001, skipped=7, skipped_by={"too_large": 5, "duplicate": 2},
                  judged=190_000, reused=10_000, failed=1, fake=50_000, uncertain=1,
                  real=149_999)  # fmt: skip

    assert page.texts("div", "figure") == [
        "Listed 200,001 distinct images; 7 skipped: 2 duplicate, 5 too large",
        "Judged 190,000 95.0 % of listed",
        "Reused 10,000 5.0 % of listed; same content judged before",
        "Failed 1 < 0.1 % of listed; without a verdict",
        "Fake 50,000 25.0 % of judged and reused",
        "Uncertain 1 < 0.1 % of judged and reused",
        "Real 149,999 75.0 % of judged and reused",
    ]


def test_a_share_just_below_100_percent_is_not_shown_as_100(report: Any) -> None:
    page = report([], listed=5000, judged=5000, real=4999, fake=1)
    assert page.texts("div", "real") == ["Real 4,999 > 99.9 % of judged and reused"]


def test_the_report_names_its_scan(report: Any) -> None:
    page = report([row()], skipped=1)
    assert page.texts("h1") == ["nightly"]
    assert "0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11" in page.texts("header")[0]
    assert "A signal, not proof: people decide." in page.texts("main")[0]
    method = page.section("method")
    assert "Source s3://archive/" in method
    assert "Started 2026-11-05 00:00:00 UTC Finished 2026-11-05 02:00:00 UTC" in method
    assert "fake from 0.6 up, real to 0.4 down" in method
    assert "fakevlm: model lingcco/fakeVLM, revision 9f2c, prompt p1, preprocessing c1, bfloat16, not" in method


def test_a_notice_of_the_detector_is_shown_at_the_top(report: Any) -> None:
    assert report([]).texts("p", "warn") == []
    assert report([], notice="A <demo> detector.").texts("p", "warn") == ["Notice. A <demo> detector."]


def test_totals_that_differ_from_the_findings_cause_a_note(report: Any) -> None:
    assert "they count 3 and 1 outcomes" in report([row()], judged=2, failed=1).texts("main")[0]
    assert "different moments" not in report([row()], judged=1).texts("main")[0]


@pytest.mark.parametrize("edge", range(20))
def test_a_bin_includes_its_lower_edge(report: Any, edge: int) -> None:
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


def test_bars_show_the_stored_verdict(report: Any) -> None:
    page = report([row(0.6), row(0.62, verdict="uncertain"), row(0.4)])
    assert page.bins()[12] == (1, 1, 0)
    assert page.bins()[8] == (0, 0, 1)
    bars = [(bar["class"], bar["x"]) for bar in page.all("rect")]
    assert bars == [("real", "40.3%"), ("fake", "60.3%"), ("uncertain", "60.3%")]


def test_thresholds_are_drawn_at_their_scores(report: Any) -> None:
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


def test_hostile_text_does_not_become_markup(report: Any) -> None:
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


def test_characters_that_hide_or_reorder_text_are_shown_by_their_numbers(report: Any) -> None:
    tricky = "a\u202egnp.exe\u2066b\u200bc\x00d\x1be\r\nf\ufeffg\ud800h"
    shown = ("a⟨U+202E⟩gnp.exe⟨U+2066⟩b⟨U+200B⟩c⟨U+0000⟩d⟨U+001B⟩e⟨U+000D⟩⟨U+000A⟩f⟨U+FEFF⟩g⟨U+D800⟩h")  # fmt: skip
    rows = [
        row(uri=tricky, external_id=tricky, explanation=tricky, reused_from=tricky),
        failed(tricky, uri=tricky, detail=tricky),
    ]
    page = report(rows, name=tricky, source=tricky, notice=tricky, detectors=[named(tricky)])

    assert not set(page.html) & set(tricky) - set("abcdefgh.nxp\n")
    assert [text for text in page.texts("dd", "uri") if len(text) != 64] == [shown] * 3
    assert page.texts("p", "explanation") == [shown.replace("⟨U+000A⟩", " ")], "an explanation may have several lines"


def test_letters_of_every_script_are_kept(report: Any) -> None:
    name = "ملف-صورة-\u200c١.jpg 👩\u200d🚀 é"
    assert report([row(uri=name)]).texts("dd", "uri")[0] == name


def test_the_file_loads_nothing_and_runs_nothing(report: Any) -> None:
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


def test_images_are_blurred_until_somebody_shows_them(report: Any) -> None:
    page = report([row()])
    assert page.texts("label") == ["Show all pictures", "Greyscale", "Show picture 1"]
    assert not [box for box in page.all("input") if "checked" in box]
    assert re.search(r"\.thumb img {[^}]*filter: blur\(2\.5rem\)", page.html)


@pytest.mark.parametrize("rule", ["content-visibility: auto", "prefers-color-scheme: dark", "@media print"])
def test_the_style_sheet_contains(report: Any, rule: str) -> None:
    assert rule in report([]).html


def test_headings_and_references_are_valid(report: Any) -> None:
    page = report([row(), failed("corrupt")])
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = [str(a[name]) for _, a in page.elements for name in ("aria-labelledby", "for") if name in a]
    asked += [str(a["href"]).removeprefix("#") for a in page.all("a")]
    assert {name for value in asked for name in value.split()} <= set(ids)


class _StopError(Exception):
    pass


@pytest.mark.parametrize("where", ["rows", "fetch"])
def test_a_report_that_fails_leaves_the_old_file(tmp_path: Path, where: str) -> None:
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


def test_the_output_changes_only_when_the_report_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("the old one")
    seen = []

    def fetch(uri: str, etag: str | None) -> bytes:
        seen.append(output.read_text())
        return picture()

    with output.open() as opened_before:
        write_report(summary(), [row(uri=f"s3://archive/{i}") for i in range(3)], fetch, output)
        assert opened_before.read() == "the old one", "the file must be replaced and not overwritten"
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

    # The first report loads modules and templates, which are not counted.
    write_report(summary(), [row()], fetch_picture, tmp_path / "warm.html")
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
