"""Benchmarks that `asv` follows through the history of the repository."""
