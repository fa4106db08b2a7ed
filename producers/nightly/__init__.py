"""`fakesweep nightly`: scans on a schedule."""
