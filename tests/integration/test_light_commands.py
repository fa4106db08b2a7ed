"""A command loads only what it needs: one that only asks Postgres loads no broker client, one without S3 no boto3."""

import os
import uuid
from pathlib import Path

import pytest

from tests.loading import FOR_DATABASE, loaded_by

NOBODY = str(uuid.uuid4())
NOT_FOR_A_FOLDER = {
    "boto3", "botocore", "s3transfer", "numpy", "PIL", "jinja2", "alembic", "sentry_sdk", "torch", "vllm",
    "transformers", "pandas", "pyarrow", "prometheus_client", "huggingface_hub", "tokenizers",
}  # fmt: skip
"""Packages that publishing must not load. What the broker's client loads itself is not limited."""


@pytest.fixture
def environment(database_url: str, clean_redis_url: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}


def test_commands_that_only_ask_postgres_load_little(environment: dict[str, str]) -> None:
    reading = (["status", "--json"], ["results", NOBODY], ["flagged"], ["events"], ["history", "s3://bucket/a.jpg"])
    changing = (
        ["pause", NOBODY],
        ["cancel", NOBODY],
        ["drop", NOBODY],
        ["retention", "--keep-days", "30"],
        ["reviewer", "add", "heron"],
        ["token", "add", "client", "--scope", "read"],
    )
    assert loaded_by(*reading, *changing, environment=environment, codes=(0, 1)) <= FOR_DATABASE


def test_a_printed_table_loads_rich(environment: dict[str, str]) -> None:
    assert loaded_by(["status"], environment=environment) <= FOR_DATABASE | {"rich"}


def test_publishing_loads_nothing_that_it_does_not_need(environment: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.touch()
    first = (["submit", image.as_uri()], ["scan", str(tmp_path)])
    again = (["resume", NOBODY], ["retry", NOBODY], ["repair", NOBODY], ["publish", NOBODY, "--counts"])
    loaded = loaded_by(*first, *again, environment=environment, codes=(0, 1))
    assert "kombu" in loaded
    assert not loaded & NOT_FOR_A_FOLDER
