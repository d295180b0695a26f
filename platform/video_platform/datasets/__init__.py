"""Captioned videos in any layout, read as one list of records."""
