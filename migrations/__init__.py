"""Alembic's migrations; `fakesweep migrate` runs them."""
