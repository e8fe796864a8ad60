"""Measurements of the product: `python -m benchmarks.NAME --json OUT`."""
