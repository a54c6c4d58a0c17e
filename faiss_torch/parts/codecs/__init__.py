"""What is stored of a vector."""
