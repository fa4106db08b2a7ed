"""Writes the rows of a table to files: a line of JSON for each, and the same row in Parquet."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import JSON, BigInteger, Boolean, Date, DateTime, Float, Integer, Uuid
from sqlmodel import Session

from producers.audit.lines import line_of
from producers.audit.tables import Part

BATCH = 1000
"""Rows that Postgres sends at once."""
ROW_GROUP = 10_000
"""Rows of a row group of Parquet. Memory holds one row group of a table."""

_TYPES = (
    (BigInteger, pa.int64()),
    (Integer, pa.int32()),
    (Float, pa.float64()),
    (Boolean, pa.bool_()),
    (DateTime, pa.timestamp("us", tz="UTC")),
    (Date, pa.date32()),
)
"""The types of Parquet for those of SQLAlchemy. BigInteger comes first, because it is an Integer. Others are texts."""


def spool(session: Session, part: Part, folder: Path) -> int:
    """Writes the rows of a table into the folder. Returns how many there are."""
    count = 0
    with ExitStack() as files:
        lines = files.enter_context((folder / f"{part.name}.jsonl").open("wb"))
        columns = files.enter_context(_parquet(part, folder)) if part.parquet else None
        for rows in _row_groups(session, part):
            lines.writelines(map(line_of, rows))
            if columns is not None:
                columns.write_table(pa.Table.from_pylist(_flat(rows, part), schema=columns.schema))
            count += len(rows)
    return count


def _flat(rows: list[dict[str, Any]], part: Part) -> list[dict[str, Any]]:
    """Returns the rows with JSON as text, as Parquet has it here."""
    names = [column.name for column in part.columns if isinstance(column.type, JSON)]
    if not names:
        return rows
    told = [(row, {name: None if row[name] is None else json.dumps(row[name]) for name in names}) for row in rows]
    return [row | texts for row, texts in told]


def _row_groups(session: Session, part: Part) -> Iterator[list[dict[str, Any]]]:
    texts = {column.name for column in part.columns if isinstance(column.type, Uuid)}
    found = session.execute(part.query, execution_options={"yield_per": BATCH}).mappings()
    rows = ({name: str(value) if name in texts and value else value for name, value in row.items()} for row in found)
    while group := list(islice(rows, ROW_GROUP)):
        yield group


def _parquet(part: Part, folder: Path) -> pq.ParquetWriter:
    schema = pa.schema([(column.name, _type_of(column.type)) for column in part.columns])
    # Each page has a CRC-32, which readers of other programs can check.
    return pq.ParquetWriter(folder / f"{part.name}.parquet", schema, compression="zstd", write_page_checksum=True)


def _type_of(given: Any) -> pa.DataType:
    return next((found for known, found in _TYPES if isinstance(given, known)), pa.string())
