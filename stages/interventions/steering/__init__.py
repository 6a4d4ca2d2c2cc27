"""Steering: maps of activations and the gates that hold them back."""
