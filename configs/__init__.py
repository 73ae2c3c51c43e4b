"""Experiment configs, one file each; `xkd_jax/config` documents every field."""
