"""Measures of quality, from tensors."""
