"""Tries a model file in a child process before it is relied on: it has to run, and to give the same numbers each time."""
