"""Evaluation configs for pretrained encoders, one file each."""
