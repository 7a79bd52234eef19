"""Prompts, captions and tokens as text.

Sources, stages, evaluation and the demo import it; it imports nothing of surd.
"""
