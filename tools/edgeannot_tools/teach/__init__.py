"""`edgeannot teach`: own classes and own objects from a few pictures, on what a bundled network has learned."""
