"""Benchmarks, a script each: `python -m benchmarks.NAME`."""
