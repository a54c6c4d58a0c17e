"""Sums of lines of 8 bits: the screen for few queries on the CPU."""
