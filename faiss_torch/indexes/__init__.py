"""Stateful Index classes, one family per file."""
