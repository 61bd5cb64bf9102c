"""Shows what is inside a TFLite file."""
