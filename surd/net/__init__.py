"""Asking hosts that nobody vouches for."""
