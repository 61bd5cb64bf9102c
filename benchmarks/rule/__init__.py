"""Measures every model on this machine and writes docs/rule.md: which family is best at which speed."""
