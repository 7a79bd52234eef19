"""The workspace on disk: parts, manifest, checksums, locks, and the one reader of aligned parts.

Stages and all above import it; it imports only ``errors``, ``params`` and ``progress``.
"""
