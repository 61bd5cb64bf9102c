"""Tracking and events against a known truth, beside a published tracker on the same detections."""
