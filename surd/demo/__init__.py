"""The offline demo world: painter, vocabulary, exact judge, and a loopback site that serves it.

Evaluation and build import it; it imports only ``text`` and what is below.
"""
