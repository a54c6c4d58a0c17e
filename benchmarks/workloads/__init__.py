"""What is measured, and beside which rivals."""
