"""TFLite graphs as values: read, changed, written."""
