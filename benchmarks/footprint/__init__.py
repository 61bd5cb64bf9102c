"""What the daemon weighs: `python -m benchmarks.footprint`."""
