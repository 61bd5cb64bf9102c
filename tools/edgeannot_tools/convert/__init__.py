"""Models of other frameworks become TFLite files with cards."""
