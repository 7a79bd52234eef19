"""The report's sections about a dataset."""
