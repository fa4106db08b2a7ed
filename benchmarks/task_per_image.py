"""The simplest way, as a reference: one Celery task per image fetches, decodes, asks vLLM and saves."""

import io
import os
from typing import Any

import boto3
import psycopg
from celery import Celery
from PIL import Image

from benchmarks.scratch import AMQP

CREATE = "CREATE TABLE one_by_one (uri text, answer text)"
QUEUE = "benchmark.one_by_one"
READY = "one by one: ready"

app = Celery("one_by_one", broker=AMQP)
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)


def publish(uris: list[str]) -> None:
    """Publishes one message per image."""
    for uri in uris:
        app.send_task("judge", args=[uri])


def main() -> None:
    """A Celery worker with one process, which holds the model."""
    from benchmarks.end_to_end import plain_llm  # noqa: PLC0415 - it imports vLLM, which publish() does not need

    llm, sampling, prompt = plain_llm()
    s3: Any = boto3.client("s3")

    @app.task(name="judge")  # type: ignore[untyped-decorator]  # Celery is not typed
    def judge(uri: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        image = Image.open(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())).convert("RGB")
        output = llm.generate([{"prompt": prompt, "multi_modal_data": {"image": image}}], sampling, use_tqdm=False)
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("INSERT INTO one_by_one VALUES (%s, %s)", [uri, output[0].outputs[0].text])

    print(READY, flush=True)
    app.worker_main(["worker", "--pool=solo", "--loglevel=WARNING", "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main()
