"""Fine-tunes a LLaVA on labelled images. The serving path of the worker never imports this package."""
