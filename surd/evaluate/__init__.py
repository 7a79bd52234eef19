"""Measuring whether an adapter helps a model draw what a plain sentence says.

Training, report and the command line import it; it imports adapter, demo, models and below.
"""
