"""Fine-tuning a LLaVA on labelled images: the light path of the worker never imports this."""
