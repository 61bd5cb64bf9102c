"""TensorFlow.js graph models: the files, the graph, and the TFLite network that is made of it."""
