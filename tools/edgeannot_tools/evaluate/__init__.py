"""Measures models on labelled pictures."""
