"""Own classes for whole pictures."""
