"""From a picture to its detections: decoding, preprocessing, the runtime, heads, cards, the pipeline, drawing."""
