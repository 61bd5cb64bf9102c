"""Measurements of taught models: classifiers, detectors, and sets made for them."""
