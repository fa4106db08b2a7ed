"""Datasets of labelled images in FakeClue's format."""
