"""Learns a linear head on a vision tower that does not change. The result is a classifier that the worker serves."""
