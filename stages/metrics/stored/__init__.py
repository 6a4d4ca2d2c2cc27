"""Rules for numbers that others stored."""
