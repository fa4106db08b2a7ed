"""The detector: what it is (description), how it is asked (prompts), how its answer is read (verdicts), what runs it."""
