"""The .tflite format, read without a library: FlatBuffers tables, the schema's values, shape arithmetic."""
