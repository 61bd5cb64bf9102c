"""Float models become int8 models, with the loss measured."""
