"""Evaluations of pretrained encoders: one file each."""
