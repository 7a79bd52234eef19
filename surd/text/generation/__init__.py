"""What image generators write about an image: one module per dialect, and the table of them.

A dialect is a function from a text, or from the JSON object in it, to a :class:`.found.Generation`,
or to None where it is another's. It reads the prompt first and by itself: a setting that is
missing or odd costs that setting and nothing else. :mod:`.dialects` lists them in order.
"""
