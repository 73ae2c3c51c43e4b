"""What the paper reports, and what others do."""
