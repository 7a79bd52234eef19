"""Texts as people write them: prompts, captions, tokens."""
