"""Reports in tests: invented rows of a scan, and the page that is written from them, as a reader sees it."""

import hashlib
import io
from collections.abc import Iterable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producers.reporting.reports import write_report

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}&lt;"

DETECTOR = {
    "name": "fakevlm", "model": "lingcco/fakeVLM", "revision": "9f2c", "prompt_revision": "p1",
    "preprocessing_revision": "c1", "dtype": "bfloat16", "quantization": None, "fingerprint": "f1" * 32,
    "calibration": None, "gives_reasons": True,
}  # fmt: skip


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "scan": "0b7f8c1e-5a57-4a4e-9d0f-6f3a1f4c2d11", "name": "nightly", "source": "s3://archive/", "kind": "scan",
        "status": "done", "note": None, "skipped_by": None, "listed": 0, "skipped": 0,
        "record": "all", "judged": 0, "reused": 0, "unchanged": 0, "failed": 0, "fake": 0, "real": 0,
        "uncertain": 0, "policy": {"explain": "flagged", "fake_from": 0.6, "real_to": 0.4}, "notice": None,
        "audits": [],
        "created_at": "2026-11-05T01:00:00+01:00", "finished_at": "2026-11-05T02:00:00+00:00",
        "detectors": [DETECTOR],
    } | changes  # fmt: skip


def row(score: float | None = 0.9, **changes: Any) -> dict[str, Any]:
    uri = changes.get("uri", "s3://archive/a.jpg")
    verdict = "uncertain" if score is None or 0.4 < score < 0.6 else "fake" if score >= 0.6 else "real"
    return {
        "uri": uri, "external_id": None, "outcome": "judged", "verdict": verdict, "score": score,
        "answer": {"fake": "fake", "real": "real"}.get(verdict, "undecided"), "cut_off": False,
        "explanation": None, "contradicts": False, "stage": None, "first_score": None,
        "reason": None, "detail": None, "etag": "e1",
        "sha256": hashlib.sha256(uri.encode(errors="surrogatepass")).hexdigest(),
        "width": 640, "height": 480, "detector": DETECTOR, "reused_from": None, "attempts": 1,
        "decided_at": "2026-11-05T01:02:03+00:00",
        "maker": None,
        "provenance": None,
    } | changes  # fmt: skip


def named(text: str) -> dict[str, Any]:
    """Returns a detector in which every text is this one."""
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
    """A page: its elements as (tag, attributes), and the text inside each element by its index."""

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
        """Returns the texts of the elements with this tag and, if given, this class. White space is collapsed."""
        return [
            " ".join(text.split())
            for (name, attributes), text in zip(self.elements, self._texts, strict=True)
            if name == tag and (not kind or kind in (attributes.get("class") or "").split())
        ]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def section(self, name: str) -> str:
        """Returns the text of the section with this id."""
        return next(
            " ".join(text.split())
            for (tag, attributes), text in zip(self.elements, self._texts, strict=True)
            if tag == "section" and attributes.get("id") == name
        )

    def bins(self) -> list[tuple[int, ...]]:
        """Returns (fake, uncertain, real) of every bin, from the table under the histogram."""
        numbers = [text for text in self.texts("tr") if " – " in text]
        return [tuple(int(number.replace(",", "")) for number in text.split()[-3:]) for text in numbers]


def write(folder: Path, rows: Iterable[dict[str, Any]], *, fetch: Any = fetch_picture, gallery: int = 99,
          limits: Any = None, **of_scan: Any) -> Page:  # fmt: skip
    """Writes the report of these rows into the folder. Returns its page."""
    output = folder / "report.html"
    write_report(summary(**of_scan), rows, fetch, output, gallery=gallery, **(limits or {}))
    return Page(output.read_text(encoding="utf-8"))


@pytest.fixture
def report(tmp_path: Path) -> Any:
    """Writes the report of some rows, as `write` does. Returns its page."""
    return partial(write, tmp_path)
