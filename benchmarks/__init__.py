"""What this package is measured against: `python -m benchmarks` makes one table; each `bench_*.py` is a script of its own."""
