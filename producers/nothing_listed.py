"""What happens to a scan that lists no image: perhaps its source is mistyped."""

from producers.listing import SkipReason
from producers.scans import Listing
from worker.tables import Scan, ScanStatus


def refusal(scan: Scan) -> str | None:
    """Returns why a scan that has listed nothing must be cancelled instead of done; None if it can be done."""
    if scan.listed or scan.status != ScanStatus.LISTING:
        return None
    if Listing.of(scan).require_images:
        return "its source names no image, and require_images asks for one or more"
    invalid = (scan.skipped_by or {}).get(SkipReason.INVALID, 0)
    if invalid and invalid == scan.skipped:
        lines = "the one line of its source is" if invalid == 1 else f"all {invalid} lines of its source are"
        return f"{lines} not valid: give s3://bucket/key, file:///path or an absolute path on each"
    return None


def warning(scan: Scan) -> str:
    """Returns one line for a scan that is done and has listed nothing."""
    causes = ", ".join(f"{cause} {count}" for cause, count in (scan.skipped_by or {}).items())
    why = f"everything in it was skipped ({causes})" if causes else "check its spelling"
    return f"scan {scan.id} lists no image of {scan.source}: {why}"
