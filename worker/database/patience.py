"""Retries for some seconds, so that Postgres can restart."""

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from worker.errors import DatabaseUnavailableError

patient = retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    wait=wait_random_exponential(max=3),
    stop=stop_after_delay(8),
    reraise=True,
)
"""Decorates a function that may safely run twice. After the last attempt, it raises DatabaseUnavailableError."""
