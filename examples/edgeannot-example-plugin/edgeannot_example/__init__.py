"""A source, a sink and a head for edgeannot."""
