"""Exports datasets of what people decided: reviews and labels, by content, as FakeClue records."""
