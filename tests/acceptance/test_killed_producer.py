"""kill -9 for producers, at random moments: nothing is lost, nothing counted twice.

KILLED_PRODUCER_KILLS says how often; 10 unless told.
"""

import os
from pathlib import Path

import pytest

from tests.killing import Producer, command_line, in_small_chunks, sweep_with_kills, write_pngs

KILLS = int(os.environ.get("KILLED_PRODUCER_KILLS", "10"))
IMAGES_A_KILL = 300
"""So many that each kill meets a producer that has not finished."""


@pytest.mark.timeout(120 + 30 * KILLS)
@pytest.mark.parametrize("producer", [command_line, in_small_chunks])
def test_a_producer_that_is_killed_again_and_again_loses_and_doubles_nothing(
    clean_redis_url: str, database_url: str, tmp_path: Path, producer: Producer
) -> None:
    listed = write_pngs(tmp_path / "images", IMAGES_A_KILL * KILLS)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    swept = sweep_with_kills(KILLS, environment, tmp_path / "images", tmp_path, producer=producer)
    assert swept.kills == KILLS, "a kill missed its producer, which had ended"
    assert (swept.scans, swept.status, swept.unpublished) == (1, "done", 0)
    assert (swept.listed, swept.judged) == (len(listed), len(listed))
    assert swept.uris == listed
