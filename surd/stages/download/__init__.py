"""download: fetch every image, check it, describe it, keep it."""
