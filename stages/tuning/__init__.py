"""Equal tuning: the same number of trials of a declared search space for every method, by one declared objective."""
