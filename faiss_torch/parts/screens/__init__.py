"""What is known of stored rows, and the copies that screens use."""
