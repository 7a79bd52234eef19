"""Loading models by hub id or local path; nothing else in surd knows their libraries."""
