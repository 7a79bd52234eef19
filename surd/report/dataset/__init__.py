"""What the report says of a dataset."""
