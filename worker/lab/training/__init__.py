"""Trains a LLaVA, or a head on a tower, with labelled images. The serving path of the worker never imports this."""
