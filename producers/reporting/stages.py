"""Says which stage of a cascade gave a verdict."""

from collections.abc import Mapping

from worker.tables import Stage

STAGES: Mapping[str, str] = {
    Stage.FIRST: "cleared by the first stage",
    Stage.JUDGE: "judged by the judge",
    Stage.AUDIT: "judged by the judge as an audit",
}
"""For each stage: the words for people."""
