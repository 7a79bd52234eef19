"""Engines run stages over parts. Stage code does not know which one runs it."""
