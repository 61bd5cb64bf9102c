"""Errors, files, foreign text, child processes: code that knows no pictures, models or messages."""
