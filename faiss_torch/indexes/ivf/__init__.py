"""Indexes of inverted lists."""
