"""Training texts made of others: what real ones say too seldom to be learned from them."""
