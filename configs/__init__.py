"""Experiment configs, one file each; `configs/base.py` documents every field."""
