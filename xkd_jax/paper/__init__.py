"""What the paper reports."""
