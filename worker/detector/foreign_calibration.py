"""Drops a calibration that was fitted on another detector than the one that runs."""

import structlog

from worker.detector.calibration import Calibration
from worker.detector.description import DetectorDescription
from worker.images import Decoding
from worker.settings import Settings

log = structlog.get_logger(__name__)


def without_foreign_calibration(description: DetectorDescription, settings: Settings) -> DetectorDescription:
    """Drops a calibration that was fitted on another model, prompt or preprocessing.

    For another number format, a calibration is nearly right: it is kept, with a warning.
    """
    if description.calibration == Calibration():
        return description
    reason = _other_pixels(description)
    if settings.model or settings.prompt:
        reason = "FAKESWEEP_MODEL or FAKESWEEP_PROMPT makes another detector"
    if reason:
        log.warning("calibration_dropped", reason=reason)
        return description.model_copy(update={"calibration": Calibration()})
    if settings.dtype or settings.quantization or settings.kv_cache_dtype:
        log.warning("calibration_of_another_precision", fitted_on=description.calibration.fitted_on)
    return description


def _other_pixels(description: DetectorDescription) -> str | None:
    """Returns why the calibration was fitted on other pixels than the description asks for; None if it was not."""
    fitted_under, form = description.calibration.preprocessing, description.preprocessing
    # If a calibration names no preprocessing, it was written by hand, or before `decode`: images were decoded in full.
    same = form.decode is Decoding.FULL if fitted_under is None else fitted_under == form.revision
    if same:
        return None
    return (
        f"it was fitted under the preprocessing {fitted_under or 'with decode = full'}, but the description says "
        f"{form.revision}: run fakesweep calibrate again"
    )
