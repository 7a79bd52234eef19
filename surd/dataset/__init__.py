"""The published dataset: writing it, reading it, exporting it, sending it to the Hub.

Build, training, report and the command line import it; it imports recipes, the store and below.
"""
