"""Where samples come from: one module a source, listed in ``kinds``.

``stages.collect`` and recipes import it; it imports ``files``, ``net``, ``text`` and what is below.
"""
