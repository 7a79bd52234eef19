"""The report's sections about training runs and their evaluations."""
