"""The Python and the SQL of docs/message.md, as another program would run them."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.contract.test_publishers import take
from tests.documents import first
from tests.integration.test_moderate import png
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.messages import JUDGE_IMAGES, LIVE_QUEUE, JudgeImages
from worker.moderate import moderate
from worker.path import Parts
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

pytestmark = pytest.mark.rabbitmq


def test_the_python_publishes_an_image_and_the_sql_finds_its_verdict(clean_amqp_url: str, database: Database) -> None:
    program = first("message.md", "python").replace("amqp://guest:guest@localhost:5672//", clean_amqp_url)
    assert clean_amqp_url in program
    names: dict[str, str] = {}
    exec(program, names)  # the document's program
    (message,) = take(clean_amqp_url, LIVE_QUEUE)
    assert (message.headers["task"], message.headers["id"]) == (JUDGE_IMAGES, names["message_id"])
    assert message.properties["delivery_mode"] == 2
    job = JudgeImages.parse(message.payload[0][0])
    description = scripted_description()
    parts = Parts(
        InMemoryImageStore({job.images[0].uri: png("white")}), database, VlmDetector(ScriptedEngine(), description),
        register_detector(database, description.row()),
    )  # fmt: skip
    moderate(job, UUID(names["message_id"]), parts)
    query = text(first("message.md", "sql"))
    with transaction(database) as session:
        (row,) = session.execute(query, {"message_id": UUID(names["message_id"])}).mappings()
        assert (row["uri"], row["external_id"], row["verdict"]) == ("s3://photos/2026/cat.jpg", "post 7", "fake")
        assert session.execute(query, {"message_id": uuid4()}).all() == []
