"""Linear transforms of vectors."""
