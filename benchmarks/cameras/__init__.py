"""Cameras, measured: decoding, latency, outages, and whether sources share one model fairly."""
