"""What is read off a running network: activations, attention, concept masks, unrolled runs."""
