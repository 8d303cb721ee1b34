"""Faults in numbers: commands that are killed, stopped and begun beside each other, and long play."""
