"""Builds and verifies audit packages: one signed zip that says what was decided, by whom, and under which rules.

docs/audit-package.md describes the format.
"""
