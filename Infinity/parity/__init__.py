"""Comparison with recorded numbers: `python -m Infinity.parity FOLDER`."""
