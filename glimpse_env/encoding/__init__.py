"""Frozen encoders of glimpses, and tables of their features of all grid locations."""
