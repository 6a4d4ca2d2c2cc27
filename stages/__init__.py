"""Backbones, methods, worlds and metrics of Palimpsest, and the entry point of each pipeline stage."""
