"""What is made of a workspace, and its readers."""
