"""download: fetch every image, check it, describe it and keep it."""
