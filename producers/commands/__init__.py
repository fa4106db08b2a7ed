"""The commands of `fakesweep`, by what they are about.

`fakesweep --help` imports none of these modules, and `fakesweep COMMAND --help` one of them: `lazy.py` knows in which
one each command is. So that help comes at once, a module imports at its top only what declares its options. What a
command works with is imported inside the command: `status` needs no broker, and `pause` no S3.
"""
