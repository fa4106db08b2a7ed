"""The commands of `fakesweep`, by what they are about.

`fakesweep --help` imports none of these modules, and `fakesweep COMMAND --help` imports one: `lazy.py` knows in which
module each command is. A module imports at its top only what its options need, so that help appears at once. A command
imports inside its function what it works with: `status` needs no broker, and `pause` needs no S3.
"""
