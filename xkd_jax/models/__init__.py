"""Networks: modules hold parameters; what can be a pure function is one elsewhere."""
