"""Compares our speed with that of references. `make bench` runs the comparisons (benchmarks/README.md)."""

from pathlib import Path

DEMO_DETECTOR = Path(__file__).resolve().parents[1] / "deploy" / "demo" / "detector"
"""The folder of the demo detector."""
