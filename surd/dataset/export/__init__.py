"""export: a published dataset in the forms other tools read."""
