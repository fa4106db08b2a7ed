"""What people read of scans: results, reports, progress on a terminal."""
