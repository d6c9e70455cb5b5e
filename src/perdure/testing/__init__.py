"""A test kit: virtual time, on which the real engine runs."""
