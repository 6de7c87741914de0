"""Where results are kept: the one atomic step, and the names of what it writes."""
