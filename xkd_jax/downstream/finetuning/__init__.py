"""Finetuning an encoder with labels."""
