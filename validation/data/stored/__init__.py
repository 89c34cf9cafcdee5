"""Samples as they are stored: array files, image files, and containers that hold either, read without unpacking."""
