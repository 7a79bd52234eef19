"""Image files and archives from strangers: sniffing, decoding, resizing, reading within limits.

Sources, stages and pages import it; it imports only ``net`` and what is below.
"""
