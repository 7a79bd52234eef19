"""What the report says of training runs and their evaluations."""
