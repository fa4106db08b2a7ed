"""The fault suite: real services, workers and producers, faults drawn by a seed, and an exact account. See README.md."""
