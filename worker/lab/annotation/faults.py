"""Why a record gets no explanation."""

from enum import StrEnum


class AnnotationCause(StrEnum):
    """Beside the causes of a dataset (worker.lab.datasets.records)."""

    REFUSED = "refused"  # an endpoint does not take the request
    NOT_ANSWERED = "not_answered"  # no answer after all retries
    MALFORMED = "malformed"  # answers, and none of them the JSON that was asked for
    NOTHING_AGREED = "nothing_agreed"  # no observation was made by two annotators
    CONTRADICTS_LABEL = "contradicts_label"  # the explanation says the opposite of the label
