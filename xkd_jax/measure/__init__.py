"""Memory, traffic and arithmetic of a step, from its program."""
