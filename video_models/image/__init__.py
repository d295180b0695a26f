"""Encoders of single images."""
