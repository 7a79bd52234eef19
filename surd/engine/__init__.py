"""Running stages over parts, on this machine or on Ray; stage code does not know which.

llm, build and the command line import it; it imports recipes, stages and the store.
"""
