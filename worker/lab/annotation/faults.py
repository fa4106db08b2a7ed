"""Why a record got no explanation."""

from enum import StrEnum


class AnnotationCause(StrEnum):
    """Causes in addition to those of a dataset (worker.lab.datasets.records)."""

    REFUSED = "refused"  # an endpoint refused the request
    NOT_ANSWERED = "not_answered"  # there was no answer after all retries
    MALFORMED = "malformed"  # no answer had the JSON that was asked for
    NOTHING_AGREED = "nothing_agreed"  # no two annotators made the same observation
    CONTRADICTS_LABEL = "contradicts_label"  # the explanation says the opposite of the label
