"""How a network is touched: addresses, the five edits, and what is attached."""
