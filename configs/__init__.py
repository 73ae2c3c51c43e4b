"""Experiments: one file each, every field documented once in `configs/base.py`."""
