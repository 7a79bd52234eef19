"""Keeping a dataset: parts, manifest, checksums, locks."""
