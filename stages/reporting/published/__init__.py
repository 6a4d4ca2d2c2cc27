"""A study's results as they are committed: single pictures' outcomes, and what follows from them."""
