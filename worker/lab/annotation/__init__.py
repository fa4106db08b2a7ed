"""Explanations for labelled images, written by other models through an OpenAI-compatible endpoint."""
