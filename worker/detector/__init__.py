"""The detector: what it is (description), how it is asked (prompts), what runs it, how its answer is read."""
