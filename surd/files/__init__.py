"""Files that nobody vouches for: images and what holds them."""
