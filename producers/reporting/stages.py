"""Says which stage of a cascade gave a verdict."""

from collections.abc import Mapping

from worker.tables import Stage

STAGES: Mapping[str, str] = {
    Stage.FIRST: "cleared by the first stage",
    Stage.JUDGE: "decided by the judge",
    Stage.AUDIT: "decided by the judge (audited sample)",
}
"""For each stage: the words for people."""
