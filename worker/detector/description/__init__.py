"""The detector.toml of a detector. It holds everything that can change a score, so it identifies the detector.

`base` has what all kinds share. `vlm`, `classifier` and `cascade` are the kinds. `parsing` reads the file.
"""

from worker.detector.description.base import DetectorDescription, Kind, Preprocessing, Thresholds
from worker.detector.description.cascade import CascadeDescription, ClearRule
from worker.detector.description.classifier import ClassifierDescription, Device, Input, InputFit, Labels
from worker.detector.description.parsing import FILE, STAGES, parse_description, vlm_only
from worker.detector.description.vlm import AnswerForm, EngineLimits, VlmDescription

__all__ = [
    "FILE", "STAGES", "AnswerForm", "CascadeDescription", "ClassifierDescription", "ClearRule", "DetectorDescription",
    "Device", "EngineLimits", "Input", "InputFit", "Kind", "Labels", "Preprocessing", "Thresholds", "VlmDescription",
    "parse_description", "vlm_only",
]  # fmt: skip
