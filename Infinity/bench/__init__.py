"""Speed of Infinity against a plain version and the matrix work: `python -m Infinity.bench`."""
