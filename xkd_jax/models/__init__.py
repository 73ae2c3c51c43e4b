"""Networks: parameters and forward passes; everything that can be a pure function is one elsewhere."""
