"""Requests to hosts that cannot be trusted: addresses, proxies, limits, robots.txt.

Files, sources and stages import it; it imports only ``errors`` and ``params``.
"""
