"""Sending what surd made to the Hugging Face Hub."""
