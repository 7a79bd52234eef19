"""filter: a verdict on every sample, each with its reasons."""
