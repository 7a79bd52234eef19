"""dedup: which samples show the same picture as a better one."""
