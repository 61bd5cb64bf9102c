"""The store and its deliverers, measured: `python -m benchmarks.store`."""
