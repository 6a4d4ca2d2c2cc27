"""The parts that every family has."""
