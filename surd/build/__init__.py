"""From a recipe to a filled workspace, and what its verdicts say in sum.

The viewer, the report, training and the command line import it; it imports everything below.
"""
