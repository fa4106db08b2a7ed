"""The commands of `fakesweep`, by what they are about."""
