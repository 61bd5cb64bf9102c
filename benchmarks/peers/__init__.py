"""Other programs that do edgeannot's work, each run in an environment of its own by `benchmarks/compare.py`."""
