"""Vectors of simple prompts from any layer of any causal language model.

Build and training import it; it imports engines, models and what is below.
"""
