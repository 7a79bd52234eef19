"""The viewer: a workspace in the browser, and deciding by hand.

Only the command line imports it.
"""
