"""Recipes: what a build is told."""
