"""Vectors of simple prompts from any layer of any causal language model."""
