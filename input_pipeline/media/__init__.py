"""Media files, read by time."""
