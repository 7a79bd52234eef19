"""filter: verdicts on every sample, each with its reasons."""
