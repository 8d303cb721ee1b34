"""What a sequence of the oracle costs."""
