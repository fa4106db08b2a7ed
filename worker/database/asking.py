"""What a scan asks of further detectors that a process does not hold.

It stands apart from worker.database.detectors, because commands that only ask Postgres load no images.
"""

from worker.case import Asked
from worker.database.detectors import answer_limit
from worker.messages import Explain, FilledPolicy
from worker.tables import Detector


def asked_of(detector: Detector, policy: FilledPolicy, explain: Explain | None = None) -> Asked | None:
    """Returns what a scan asks of a further detector that this process does not hold. None: its row is of a release
    that stored no description.
    """
    if detector.id is None or detector.description is None:
        return None
    limit, thresholds = answer_limit(detector.description), detector.description["thresholds"]
    asked = policy.of_further(detector.name, limit, explain, **thresholds)
    return Asked(detector.id, asked, here=False, started_at=detector.also_at)
