"""The `edgeannot` command."""
