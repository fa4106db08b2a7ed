"""What `fakesweep check` looks at. Each module has a tuple CHECKS; `rows.py` says what a check is.

A check imports what it works with when it runs, so that a missing package makes one row of the
table and does not end the command.
"""
