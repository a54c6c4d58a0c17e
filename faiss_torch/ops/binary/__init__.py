"""Vectors of bits."""
