"""Who comes in. `people` says who asks, `sessions` remembers it, and each way to log in has a module of its own."""
