"""Revisions that `fakesweep migrate --finish` runs, after a roll-out. `fakesweep migrate` runs those of `versions`.

They remove what only the releases before needed. Both folders are one chain: each revision has its own number.
"""
