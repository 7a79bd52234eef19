"""surd: build (simple prompt, complex prompt, image) datasets and train adapters on them."""

__version__ = "0.1.0"
