"""What ``reviewpulse forget`` does: a product, or a customer, out of Redis and the alerts topic."""
