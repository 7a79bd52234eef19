"""The command line: one function a command, parsed by typer.

Nothing imports it but ``__main__``; it imports what a command needs, once the command runs.
"""
