"""Exporting: a published dataset in the forms that other tools read."""
