"""The summary of a package for people: one HTML page that opens without a network."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from producers.audit.facts import Facts
from worker.pages import templates_in

SUMMARY = "summary.html"


def write_summary(path: Path, facts: Facts, rows: Mapping[str, int]) -> None:
    """Writes the page. `rows` counts the rows of each table."""
    page = templates_in(Path(__file__).parent).get_template("summary.html.j2")
    path.write_text(
        page.render(facts=facts, rows=rows, selection=facts.selection.described(), release=version("fakesweep")),
        encoding="utf-8",
    )
