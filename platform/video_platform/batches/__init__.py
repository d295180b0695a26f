"""Batches: which samples make up which step, and how they reach a rank in time."""
