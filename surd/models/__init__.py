"""Loading models by hub id or local path; nothing else knows their libraries.

Stages, llm, adapter, evaluate and training import it; it imports only ``errors`` and ``paths``.
"""
