"""What the commands do and print. The command line parses, these files answer."""
