"""Training an adapter: data, losses, loop, checkpoints, validation, ablations.

Report and the command line import it; it imports everything below.
"""
