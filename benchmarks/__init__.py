"""Benchmarks: ratios to named peers in one process; `python -m benchmarks`, and scripts for single questions."""
