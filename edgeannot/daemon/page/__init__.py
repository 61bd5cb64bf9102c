"""The live page: what a person sees of the daemon in a browser."""
