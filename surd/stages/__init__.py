"""The stages of a build, each a function from rows to rows.

Recipes, engines and ``build`` import it; it imports sources, models and what is below.
"""
