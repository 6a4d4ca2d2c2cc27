"""Backbones from names, checkpoints and released files."""
