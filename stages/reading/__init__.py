"""Readings of a running network: activations, attention, concept masks, unrolled runs."""
