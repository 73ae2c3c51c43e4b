"""Whether a run is healthy: findings from its log and its outputs, and the verdict on them."""
