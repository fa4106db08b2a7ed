"""Measuring a detector on labelled images: the light path of the worker never imports this."""
