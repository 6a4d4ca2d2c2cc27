"""Searches for prompts or embeddings that bring an erased concept back."""
