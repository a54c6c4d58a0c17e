"""The records of index types in files."""
