"""The report: one self-contained HTML file about a workspace or a training run.

Only the command line imports it.
"""
