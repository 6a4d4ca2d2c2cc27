"""The one training loop, its settings, progress, float16 and several processes."""
