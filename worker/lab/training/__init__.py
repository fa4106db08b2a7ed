"""Trains detectors on labelled images: a LLaVA, or a head on a tower. The serving path of the worker never imports this package."""
