"""Conversion of weights: exports of ours, and imports of the authors' release."""
