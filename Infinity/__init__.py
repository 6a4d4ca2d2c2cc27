"""Infinity: bitwise autoregressive image generation (arXiv 2412.04431), an implementation of our own."""
