"""Timing calls, and what they are timed with."""
