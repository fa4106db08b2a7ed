"""The detector: its description, the engine that runs it, and how its answers are read."""
