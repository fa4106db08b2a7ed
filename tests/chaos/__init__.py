"""The fault suite causes faults on real services, and accounts for every message and image. See README.md."""
