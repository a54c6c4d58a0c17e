"""What records are shown as."""
