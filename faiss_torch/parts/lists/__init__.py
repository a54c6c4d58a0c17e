"""Inverted lists, and where they are stored."""
