"""Login and sessions. `people` finds out who makes a request, `sessions` remembers it, and each way to log in has
its own module.
"""
