"""The workstation side of edgeannot: convert, quantize, evaluate. It may import edgeannot; edgeannot never imports it."""
