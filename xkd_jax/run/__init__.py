"""A run: the loop, its checkpoints, metrics, signals and processes. It knows nothing of XKD."""
