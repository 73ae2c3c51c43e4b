"""Pretrained encoders: weights with their description, and raw media made into views."""
