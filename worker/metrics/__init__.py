"""Our own metrics: `declared` says what they are, and `Metrics` counts them."""

from worker.metrics.metrics import Metrics

__all__ = ["Metrics"]
