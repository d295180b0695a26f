"""Noise paths, time grids, guidance and samplers."""
