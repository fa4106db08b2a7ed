"""The producers: list images, publish them to the queue, report on scans. Loads neither torch nor vllm."""
