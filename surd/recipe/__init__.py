"""Recipes: every setting of a build, of vectors and of training, and the table of stages.

Engines, llm, dataset, build, training and the command line import it; it imports stages and below.
"""
