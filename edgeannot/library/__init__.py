"""Adds and removes models: the user's own, and public ones of the catalogue."""
