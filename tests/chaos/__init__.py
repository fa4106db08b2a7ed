"""The fault suite: faults, drawn by a seed, on real services, and an exact account. See README.md."""
