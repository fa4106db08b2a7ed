"""Producers are killed with SIGKILL at random moments: nothing is lost, and nothing is counted twice.

KILLED_PRODUCER_KILLS says how often. The default is 10.
"""

import os
from pathlib import Path

import pytest

from tests.killing import Producer, command_line, in_small_chunks, sweep_with_kills, write_pngs

KILLS = int(os.environ.get("KILLED_PRODUCER_KILLS", "10"))
IMAGES_PER_KILL = 300
"""So many that no producer finishes before it is killed."""


@pytest.mark.timeout(120 + 30 * KILLS)
@pytest.mark.parametrize("producer", [command_line, in_small_chunks])
def test_killed_producers_lose_nothing_and_count_nothing_twice(
    clean_redis_url: str, database_url: str, tmp_path: Path, producer: Producer
) -> None:
    listed = write_pngs(tmp_path / "images", IMAGES_PER_KILL * KILLS)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    swept = sweep_with_kills(KILLS, environment, tmp_path / "images", tmp_path, producer=producer)
    assert swept.kills == KILLS, "a producer had ended before it was killed"
    assert (swept.scans, swept.status, swept.unpublished) == (1, "done", 0)
    assert (swept.listed, swept.judged) == (len(listed), len(listed))
    assert swept.uris == listed
