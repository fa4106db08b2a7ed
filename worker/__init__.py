"""The worker: takes JudgeImages messages off the queue, judges their images, writes findings to Postgres."""
