"""Measures the oracle's cost: time and memory of a sequence."""
