"""What every family is made of."""
