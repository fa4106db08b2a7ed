"""Grafana's boards in deploy/grafana, and their queries as Grafana sends them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.documents import ROOT

FOLDER = ROOT / "deploy" / "grafana" / "boards"
_MACRO = re.compile(r"\$__timeFilter\(([^)]*)\)")
"""Grafana finds a macro in this way: the argument ends at the first closing bracket."""
_SECONDS = {"__rate_interval": "10s", "__range": "60s", "__range_s": "60"}


class Target(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    datasource: str
    query: str
    format: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}"


def boards() -> dict[str, Any]:
    """The boards by the names of their files."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def targets(datasource: str) -> list[Target]:
    """Returns all queries of this data source."""
    return [one for name, board in boards().items() for one in _targets(name, board) if one.datasource == datasource]


def _targets(name: str, board: Mapping[str, Any]) -> Iterator[Target]:
    for panel in board["panels"]:
        for one in panel["targets"]:
            query = one["rawSql"] if "rawSql" in one else one["expr"]
            yield Target(name, panel["title"], one["datasource"]["uid"], query, one.get("format", "time_series"))


def variable_queries() -> dict[str, str]:
    """The queries that fill the boards' variables, by board and variable."""
    return {
        f"{name} {variable['name']}": variable["query"]
        for name, board in boards().items()
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    }


def sql_of(query: str, chosen: str = ".*") -> str:
    """Returns a query for Postgres as Grafana sends it, over the last 90 days.

    `chosen` is the value of all variables.
    """
    query = _MACRO.sub(r"\1 BETWEEN now() - interval '90 days' AND now()", query)
    query = re.sub(r"\$\{\w+:regex\}", chosen.replace("\\", r"\\"), query)
    return _expanded(query)


def promql_of(query: str) -> str:
    """Returns a query for Prometheus as Grafana sends it, over one minute."""
    for name, value in {**_SECONDS, "price": "2"}.items():
        query = re.sub(rf"\${name}\b", value, query)
    return _expanded(query)


def _expanded(query: str) -> str:
    if "$" in query.replace(")$'", ""):  # the end of a regular expression
        raise AssertionError(f"this test does not know a macro or variable of: {query}")
    return query
