"""Revisions that `fakesweep migrate --finish` runs, after a roll-out. `fakesweep migrate` runs those of `versions`.

They remove what only older releases needed. Both folders form one chain: each revision has its own number.
"""
