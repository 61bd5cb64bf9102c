"""Chooses the model that this board runs: by candidates, measurements and a rule."""
