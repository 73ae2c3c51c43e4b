"""The HTML report on a run, and the pictures in it."""
