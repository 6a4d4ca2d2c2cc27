"""How a network is touched: addresses, the five edits, and the registry of attached edits."""
