"""Counts the structure of the code, and draws it."""
