"""LiteRT beside other engines on the same networks, in float and int8: `python -m benchmarks.engines`. None of them is built in."""
