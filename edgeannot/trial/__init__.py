"""Whether a model file can be run here and gives the same numbers each time: tried in a process of its own before it is relied on."""
