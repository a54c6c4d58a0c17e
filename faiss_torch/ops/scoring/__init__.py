"""Scores of stored rows, their bounds, and the verification of what passes."""
