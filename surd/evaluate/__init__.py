"""Evaluating: whether an adapter helps the model to draw what a plain sentence says."""
